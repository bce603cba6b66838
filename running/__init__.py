"""Running: errors, console, settings, files, signals, threads, downloads. No torch."""
