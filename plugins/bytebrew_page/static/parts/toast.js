// One line about what happened out of sight, with a way back; errors never come as a toast.

let timer = 0;

/** @param {string} words @param {() => void} [undo] */
export function toast(words, undo) {
  document.querySelector(".toast")?.remove();
  const box = document.createElement("div");
  box.className = "toast";
  box.setAttribute("role", "status");
  box.append(words);
  if (undo) {
    const button = document.createElement("button");
    button.textContent = "Undo";
    button.addEventListener("click", () => (undo(), box.remove()));
    box.append(button);
  }
  (document.querySelector("dialog:modal") ?? document.body).append(box);
  const leave = () => {
    clearTimeout(timer);
    timer = window.setTimeout(() => (box.matches(":hover, :focus-within") ? leave() : box.remove()), 5000);
  };
  leave();
}

/** Copies a text, and says so. @param {string} text @param {string} [words] */
export async function copy(text, words = "Copied") {
  await navigator.clipboard.writeText(text);
  toast(words);
}
