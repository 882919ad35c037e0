// How the page is written to. Everything that is shown comes from outside (agents choose their names), so text is only
// ever set as text: nothing here takes HTML.

const SVG = 'http://www.w3.org/2000/svg';

/** A new element with these attributes and children. Text among the children stays text. */
export function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same in SVG. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  attrs(element, attributes);
  element.append(...children);
  return element;
}

/** Sets attributes; null or false takes one away. One that is as it should be is left alone. */
export function attrs(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) {
      if (element.hasAttribute(name)) element.removeAttribute(name);
    } else if (element.getAttribute(name) !== String(value)) {
      element.setAttribute(name, value);
    }
  }
}

/** Sets an element's text. One that is as it should be is left alone: a selection in it lives on. */
export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

/** The element with this id, which the page has. */
export function byId(id) {
  return document.getElementById(id);
}

/** Shows the element or hides it. */
export function show(element, isShown) {
  if (element.hidden === isShown) element.hidden = !isShown;
}

/**
 * Makes the children of `parent` those of `items`, in their order: each is found again by its key, made once and then
 * filled, so that focus and selection stay where they are.
 */
export function rows(parent, items, { key, make, fill }) {
  const before = new Map();
  for (const child of [...parent.children]) {
    // Two of the same key: one is enough to find it again, and the other would stay for ever.
    if (before.has(child.dataset.key)) child.remove();
    else before.set(child.dataset.key, child);
  }
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let child = before.get(name);
    before.delete(name);
    if (!child) {
      child = make(item);
      child.dataset.key = name;
    }
    fill(child, item);
    if (child === place) {
      place = place.nextElementSibling;
    } else {
      parent.insertBefore(child, place);
    }
  }
  for (const gone of before.values()) gone.remove();
}

/** The element below `parent` that has this `data-part`. */
export function part(parent, name) {
  return parent.querySelector(`[data-part="${name}"]`);
}
