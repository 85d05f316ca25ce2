// What makes the pages handier. They work without it.
"use strict";

const said = document.getElementById("said");

// The clipboard is only there with TLS or on this machine; selecting and copying works everywhere.
async function copy(source) {
  try {
    await navigator.clipboard.writeText(source.textContent.trim());
  } catch {
    const selection = getSelection();
    selection.selectAllChildren(source);
    const copied = document.execCommand("copy");
    if (copied) selection.removeAllRanges();
    return copied;
  }
  return true;
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  const label = button.firstChild;
  const usual = label.textContent;
  let timer;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const copied = await copy(document.getElementById(button.dataset.copy));
    label.textContent = said.textContent = copied ? "Copied" : "Press Ctrl+C";
    clearTimeout(timer);
    timer = setTimeout(() => { label.textContent = usual; said.textContent = ""; }, 2000);
  });
}

// Progress: the server sends the changing part of the page each time it has changed, while the page is looked at.
const now = document.getElementById("now");
if (now) {
  let stream;
  const phase = () => now.querySelector("[data-phase]").dataset.phase;
  const watch = () => {
    stream?.close();
    if (document.hidden) return;
    stream = new EventSource(now.dataset.events);
    stream.addEventListener("now", (event) => {
      const before = phase();
      now.innerHTML = event.data;
      if (phase() !== before) said.textContent = phase();
    });
    stream.addEventListener("error", () => {
      if (stream.readyState === EventSource.CLOSED) setTimeout(watch, 15000);
    });
  };
  document.addEventListener("visibilitychange", watch);
  addEventListener("pagehide", () => stream?.close());
  watch();
}
