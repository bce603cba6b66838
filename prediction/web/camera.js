/** The live camera: frames go to the network as soon as it has time for one. */

// The short side of the frames: the network sees few pixels, and more take time.
const SIDE = { ideal: 720 };

const PART = 0.5; // of the short side of a frame, where one looks closer

/** Tell whether the browser gives this page a camera: over HTTPS or from this machine alone. */
export function hasCamera() {
  return Boolean(navigator.mediaDevices?.getUserMedia);
}

/** Tell whether the camera can start without a question. */
export async function isAllowed() {
  try {
    return (await navigator.permissions.query({ name: "camera" })).state === "granted";
  } catch {
    return false; // Firefox and older Safaris do not know this question
  }
}

/**
 * Start the camera that looks away from its user.
 *
 * @param {HTMLVideoElement} video - where it is shown; what is seen is what the network sees
 * @param {number} closer - the short side over the side of what the network sees of it
 * @param {(frame: ImageBitmap) => Promise<void>} look - is waited for: frames that come meanwhile
 *   are skipped
 * @param {(error?: Error) => void} ended - is called once, by whatever it ends
 * @returns {Promise<{stop: () => void, take: () => Promise<ImageBitmap>, aim: (at: ?number[]) =>
 *   void}>} what stops it, what takes a frame, and what looks closer at a point of what is seen, in
 *   shares of its sides, or again at all
 */
export async function startCamera(video, closer, look, ended) {
  const stream = await navigator.mediaDevices.getUserMedia({
    video: { facingMode: "environment", height: SIDE },
    audio: false,
  });
  let runs = true;
  let centre = null; // of the part, in short sides from the centre of the frame

  function stop(error) {
    if (!runs) return;
    runs = false;
    stream.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
    aim(null);
    ended(error);
  }

  function aim(at) {
    const furthest = (1 - PART) / 2;
    const within = (share) => Math.max(-furthest, Math.min(furthest, (share - 0.5) / closer));
    centre = at && at.map(within);
    const [x, y] = centre ?? [0, 0];
    const scale = centre ? closer / PART : closer;
    video.style.transform = `scale(${scale}) translate(${-100 * x}%, ${-100 * y}%)`;
  }

  function take() {
    if (!centre) return createImageBitmap(video);
    const sides = [video.videoWidth, video.videoHeight];
    const short = Math.min(...sides);
    const side = Math.round(PART * short);
    const corner = sides.map((length, i) => Math.round(length / 2 + centre[i] * short - side / 2));
    return createImageBitmap(video, ...corner, side, side);
  }

  async function watch() {
    while (runs) {
      await nextFrame(video);
      if (runs && video.videoWidth) await look(await take());
    }
  }

  stream.getTracks().forEach((track) => track.addEventListener("ended", () => stop()));
  video.srcObject = stream;
  aim(null);
  try {
    await video.play();
  } catch (error) {
    stop(error);
  }
  watch().catch(stop);
  return { stop, take, aim };
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
