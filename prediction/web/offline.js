/** Keeping the app on the device, and getting a new version of it: the page's end of sw.js. */

/**
 * Keep the app, so that it works without a connection.
 *
 * A new version is loaded beside the old one, and takes its place in one step, as files of two
 * versions would not fit together.
 *
 * @param {() => boolean} isIdle - whether the page can be loaded anew without a loss
 * @param {Promise<void>} loaded - by the page itself, which is not to wait for a second download
 */
export async function keepOffline(isIdle, loaded) {
  const workers = navigator.serviceWorker;
  if (!workers) return; // the page came neither over HTTPS nor from this machine
  let isUpdate = Boolean(workers.controller); // on a first visit the first worker is none
  workers.addEventListener("controllerchange", () => {
    const wasUpdate = isUpdate;
    isUpdate = true;
    if (!wasUpdate) return;
    if (isIdle() || wanted) return location.reload();
    ask(() => location.reload()); // another tab has taken the new version
  });
  await loaded; // another tab may take a new version meanwhile
  try {
    const registration = await workers.register("sw.js", { updateViaCache: "none" });
    offer(registration, isIdle);
    registration.addEventListener("updatefound", () => {
      registration.installing.addEventListener("statechange", () => offer(registration, isIdle));
    });
    await workers.ready; // from now on everything is kept
    document.getElementById("offline").hidden = false;
  } catch {
    // A private window may refuse: the app works there as long as there is a connection.
  }
}

let wanted = false; // whether the user has asked for the new version here

/** Use a new version that waits, at once or when the user wants it. */
function offer({ waiting, active }, isIdle) {
  if (!waiting || !active) return;
  const use = () => waiting.postMessage("use");
  if (isIdle()) return use();
  ask(use);
}

function ask(use) {
  document.getElementById("update").hidden = false;
  document.getElementById("update-button").onclick = () => {
    wanted = true;
    use();
  };
}
