// The look of the widget: variables of the page that it stands in, with defaults for light and dark.
const STYLE = `
:host { all: initial; color-scheme: inherit;
  --accent: var(--bytebrew-accent, light-dark(#14171b, #eceef1)); --on-accent: var(--bytebrew-on-accent, light-dark(#fff, #141619));
  --ink: var(--bytebrew-ink, light-dark(#14171b, #eceef1)); --paper: var(--bytebrew-paper, light-dark(#fff, #1b1e23));
  --line: var(--bytebrew-line, light-dark(#868f9b, #6f7985)); --radius: var(--bytebrew-radius, 12px);
  --faint: color-mix(in srgb, var(--line) 40%, transparent); --dim: color-mix(in srgb, var(--ink) 72%, var(--paper));
  font: 15px/1.5 var(--bytebrew-font, system-ui, "Liberation Sans", sans-serif); color: var(--ink) }
* { box-sizing: border-box; font: inherit; margin: 0 }
button { cursor: pointer; border: 0; background: none; color: inherit; border-radius: 8px; min-block-size: 40px; padding: 0 14px }
button:disabled { opacity: .55; cursor: default }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
[hidden] { display: none !important }
.open { position: fixed; inset: auto 20px 20px auto; z-index: 2147483000; background: var(--accent); color: var(--on-accent);
  border-radius: 24px; min-block-size: 48px; padding: 0 20px; box-shadow: 0 4px 18px rgb(0 0 0 / .22); font-weight: 600 }
dialog { position: fixed; inset: auto 20px 20px auto; z-index: 2147483000; inline-size: min(380px, calc(100vw - 24px));
  block-size: min(560px, calc(100dvh - 24px)); padding: 0; border: 1px solid var(--line); border-radius: var(--radius);
  background: var(--paper); color: inherit; box-shadow: 0 12px 40px rgb(0 0 0 / .22); overflow: hidden }
dialog[open] { display: grid; grid-template-rows: auto 1fr auto auto }
header { display: flex; align-items: center; padding: 6px 6px 6px 16px; border-block-end: 1px solid var(--faint) }
h2 { flex: 1; font-weight: 650; min-inline-size: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
header button { min-inline-size: 40px; padding: 0 }
details { position: relative }
summary { list-style: none; cursor: pointer; display: grid; place-items: center; inline-size: 40px; block-size: 40px; border-radius: 8px }
summary::-webkit-details-marker { display: none }
details > button { position: absolute; inset: 44px 0 auto auto; z-index: 1; padding: 0 14px; white-space: nowrap; background: var(--paper); border: 1px solid var(--line) }
ol { list-style: none; padding: 16px; overflow-y: auto; overscroll-behavior: contain; display: flex; flex-direction: column; gap: 12px }
li { max-inline-size: 92%; overflow-wrap: anywhere; unicode-bidi: isolate }
.text { white-space: pre-wrap }
.me { align-self: end; max-inline-size: 86%; background: color-mix(in srgb, var(--accent) 11%, var(--paper)); padding: 8px 12px; border-radius: 12px }
.note, .status { color: var(--dim); font-size: 13px }
.status { padding: 8px 16px 0 } .status:empty { display: none }
.block { inline-size: 92%; border: 1px solid var(--faint); border-radius: 8px; padding: 10px 12px; display: grid; gap: 8px }
b { font-weight: 650 } a { color: inherit; text-decoration: underline } code { font-family: ui-monospace, monospace; font-size: .92em }
table { border-collapse: collapse; inline-size: 100% }
th, td { text-align: start; vertical-align: top; padding: 4px 8px 4px 0; border-block-end: 1px solid var(--faint); font-weight: 400 }
th { color: var(--dim); inline-size: 45% }
.block form, fieldset { display: grid; gap: 8px; border: 0; padding: 0; min-inline-size: 0 }
.block label:has([type=checkbox]) { display: flex; gap: 8px; align-items: center; min-block-size: 32px }
.acts { display: flex; flex-wrap: wrap; gap: 8px }
.acts button, .block form > button { border: 1px solid var(--line) }
.first, .send { background: var(--accent); color: var(--on-accent); font-weight: 600 }
.say { display: flex; align-items: end; gap: 8px; padding: 12px }
textarea, select, input:not([type=checkbox]) { flex: 1; min-inline-size: 0; inline-size: 100%; border: 1px solid var(--line); border-radius: 8px;
  padding: 8px 12px; min-block-size: 40px; background: var(--paper); color: inherit }
textarea { resize: none; field-sizing: content; max-block-size: 132px }
.sr { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%) }
@media (max-width: 480px) { dialog { inset: 0; inline-size: 100vw; max-inline-size: none; block-size: 100dvh; max-block-size: none; border: 0; border-radius: 0 } }`;
