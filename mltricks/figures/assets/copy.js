// Every <button class="copy"> copies the text of the <pre> in the same <div class="command">.
// A page opened from disk may lack navigator.clipboard; then the selection is copied.
document.addEventListener("click", async event => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  const pre = button.closest(".command").querySelector("pre");
  const said = await copied(pre);
  button.textContent = said ? "Copied" : "Selected: press Ctrl+C";
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
});

async function copied(pre) {
  try {
    await navigator.clipboard.writeText(pre.textContent);
    return true;
  } catch {
    const range = document.createRange();
    range.selectNodeContents(pre);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    return document.execCommand("copy");
  }
}
