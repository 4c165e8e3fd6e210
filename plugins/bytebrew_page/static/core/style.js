// Styles by the CSSOM: a strict Content-Security-Policy refuses `style` attributes, also those that a template sets.
import { nothing } from "../vendor/lit-html/lit-html.js";
import { Directive, directive } from "../vendor/lit-html/directive.js";

class Styled extends Directive {
  /** @param {Record<string, string | number | null>} properties */
  render(properties) {
    return nothing;
  }

  /**
   * @param {any} part
   * @param {[Record<string, string | number | null>]} values
   */
  update(part, [properties]) {
    for (const [name, value] of Object.entries(properties)) {
      if (value === null) part.element.style.removeProperty(name);
      else part.element.style.setProperty(name, String(value));
    }
    return nothing;
  }
}

/** Sets properties of an element: `<i ${styled({ width: "40%", "--depth": 2 })}>`; null takes one away. */
export const styled = directive(Styled);
