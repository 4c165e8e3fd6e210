// Search, copying, and links that open what they lead to. The page is whole without any of it.
const items = [...document.querySelectorAll("details.item")];
const words = new Map(items.map((item) => [item, item.textContent.toLowerCase()]));
const links = new Map([...document.querySelectorAll("nav li li a")].map((link) => [link.hash.slice(1), link.parentElement]));
const box = document.querySelector("nav input");
const none = document.querySelector(".none");

function search() {
  const wanted = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const [item, text] of words) {
    const fits = wanted.every((word) => text.includes(word));
    item.hidden = !fits;
    if (links.has(item.id)) links.get(item.id).hidden = !fits;
    shown += fits;
  }
  for (const section of document.querySelectorAll("main section")) {
    section.hidden = !section.querySelector("details.item:not([hidden])");
    const link = document.querySelector(`nav a[href="#${CSS.escape(section.id)}"]`);
    if (link) link.parentElement.hidden = section.hidden;
  }
  none.hidden = shown > 0;
}

function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  if (target.closest("[hidden]")) {
    box.value = "";
    search();
  }
  if (target.matches("details")) target.open = true;
  target.scrollIntoView();
}

function copying(block) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    const text = block.querySelector("pre");
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    } catch {
      getSelection().selectAllChildren(text); // pages that are not on HTTPS may not write to the clipboard
      button.textContent = "Press Ctrl C";
    }
  });
  block.append(button);
}

for (const origin of document.querySelectorAll(".origin")) origin.textContent = location.origin;
for (const block of document.querySelectorAll(".code")) copying(block);
if (box) {
  box.parentElement.hidden = false;
  box.addEventListener("input", search);
  addEventListener("hashchange", reveal);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.matches("input") && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      box.focus();
    } else if (event.key === "Escape" && event.target === box) {
      box.value = "";
      search();
    }
  });
  reveal();
}
