// The one live region of the page: what readers of the screen hear.

/** Says a sentence, politely. @param {string} words */
export function say(words) {
  const region = document.getElementById("said");
  if (region) region.textContent = words;
}
