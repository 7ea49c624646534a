// A button for one picture. What is too large for one message to the kernel is made smaller here, or refused in words.
async function smaller(file, side) {
  const picture = await createImageBitmap(file), share = Math.min(1, side / Math.max(picture.width, picture.height));
  const canvas = new OffscreenCanvas(Math.round(share * picture.width), Math.round(share * picture.height));
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return (await canvas.convertToBlob({ type: "image/png" })).arrayBuffer();
}

function render({ model, el }) {
  const input = Object.assign(document.createElement("input"), { type: "file", accept: "image/*", hidden: true });
  const button = Object.assign(document.createElement("button"), {
    className: "lm-Widget jupyter-widgets jupyter-button widget-button", textContent: "upload", title: model.get("hint") });
  button.style.width = "auto";
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", async () => {
    const file = input.files[0], limit = model.get("limit"), size = `${(file.size / 1e6).toFixed(1)} MB`;
    input.value = "";                                                       // the same file can be chosen again
    try {
      const bytes = await (file.size > limit ? smaller(file, model.get("side")) : file.arrayBuffer());
      if (bytes.byteLength > limit) throw new RangeError("still too large");
      model.set("file", { name: file.name, content: new DataView(bytes), at: performance.now() });
    } catch {
      model.set("refused", [`${file.name} has ${size}, and this browser cannot make it smaller; ` +
        `a picture may have up to ${limit / 1e6} MB`, performance.now()]);
    }
    model.save_changes();
  });
  el.append(button, input);
}

export default { render };
