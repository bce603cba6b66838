/** The live camera: frames go to the network as soon as it has time for one. */

// The short side of the frames: the network sees few pixels, and more take time.
const SIDE = { ideal: 720 };

/** Tell whether the browser gives this page a camera: over HTTPS or from this machine alone. */
export function hasCamera() {
  return Boolean(navigator.mediaDevices?.getUserMedia);
}

/**
 * Start the camera that looks away from its user.
 *
 * @param {HTMLVideoElement} video - where it is shown
 * @param {(frame: ImageBitmap) => Promise<void>} look - is waited for: frames that come meanwhile
 *   are skipped
 * @param {(error?: Error) => void} ended - is called once, by whatever it ends
 * @returns {Promise<() => void>} what stops it
 */
export async function startCamera(video, look, ended) {
  const stream = await navigator.mediaDevices.getUserMedia({
    video: { facingMode: "environment", height: SIDE },
    audio: false,
  });
  let runs = true;

  function stop(error) {
    if (!runs) return;
    runs = false;
    stream.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
    ended(error);
  }

  async function watch() {
    while (runs) {
      await nextFrame(video);
      if (runs && video.videoWidth) await look(await createImageBitmap(video));
    }
  }

  stream.getTracks().forEach((track) => track.addEventListener("ended", () => stop()));
  video.srcObject = stream;
  try {
    await video.play();
  } catch (error) {
    stop(error);
  }
  watch().catch(stop);
  return stop;
}

function nextFrame(video) {
  return new Promise((resolve) => {
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(resolve);
    else requestAnimationFrame(resolve);
  });
}

/** Say in a sentence why there is no camera. */
export function explain({ name, message }) {
  const instead = "choose a photograph instead";
  const sentences = {
    NotAllowedError: `This page may not use the camera: allow it in the browser, or ${instead}.`,
    NotFoundError: `This device has no camera: ${instead}.`,
    OverconstrainedError: `This device has no camera: ${instead}.`,
    NotReadableError: `Another app uses the camera: close it, or ${instead}.`,
  };
  return sentences[name] ?? `The camera cannot be used (${message}): ${instead}.`;
}
