// Reads a label with the camera: by the browser's own BarcodeDetector, or by the decoder
// that is loaded only then.

const formats = ["qr_code", "code_128", "code_39", "data_matrix", "itf", "aztec", "pdf417"];
const every = 120; // ms

/** Whether there is a camera to ask for. */
export const camera = () => Boolean(navigator.mediaDevices?.getUserMedia);

/**
 * Shows the camera in video and calls found with each text that it reads, until signal
 * aborts. It throws where the camera is refused or missing.
 */
export async function scan({ video, decoder, found, signal }) {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1280 } }, audio: false });
  const stop = () => {
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
  };
  if (signal.aborted) return stop();
  signal.addEventListener("abort", stop, { once: true });
  try {
    video.srcObject = stream;
    await video.play();
    const read = await reader(decoder);
    while (!signal.aborted) {
      const text = video.videoWidth ? await read(video) : "";
      if (text && !signal.aborted) found(text);
      await new Promise((resolve) => setTimeout(resolve, every));
    }
  } catch (error) {
    stop();
    if (!signal.aborted) throw error;
  }
}

async function reader(decoder) {
  if ("BarcodeDetector" in window) {
    const known = (await BarcodeDetector.getSupportedFormats()).filter((f) => formats.includes(f));
    if (known.length > 0) {
      const detector = new BarcodeDetector({ formats: known });
      return async (video) => (await detector.detect(video))[0]?.rawValue ?? "";
    }
  }
  await import(decoder);
  const { ZXing } = window;
  const hints = new Map([
    [ZXing.DecodeHintType.TRY_HARDER, true],
    [ZXing.DecodeHintType.POSSIBLE_FORMATS, ["QR_CODE", "CODE_128", "CODE_39", "DATA_MATRIX", "ITF"].map((f) => ZXing.BarcodeFormat[f])],
  ]);
  const multi = new ZXing.MultiFormatReader();
  multi.setHints(hints);
  const canvas = document.createElement("canvas");
  return async (video) => {
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d", { willReadFrequently: true }).drawImage(video, 0, 0);
    try {
      return multi.decode(new ZXing.BinaryBitmap(new ZXing.HybridBinarizer(new ZXing.HTMLCanvasElementLuminanceSource(canvas)))).getText();
    } catch {
      return ""; // nothing on this picture
    }
  };
}
