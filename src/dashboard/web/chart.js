// One chart of the timeline, as SVG: steps over time, from 0 to the most that was seen.

import { attrs, el, svg, text } from './dom.js';
import { minuteOfDay } from './format.js';

/** Its height, and the room around the lines: numbers on the left, times below. In pixels. */
const HEIGHT = 100;
const ROOM = { left: 30, right: 6, top: 6, bottom: 22 };

/** Seconds from one line of the grid to the next: the first that leaves each time so much room, in pixels. */
const GRID = [60, 120, 300, 600, 900, 1200, 1800];
const TIME_WIDTH = 60;

/** A chart at the end of `parent`. `onPoint` is told of the moment that the pointer is at, or null when it left. */
export function chart(parent, { id, label, value, limit }, onPoint) {
  const parts = {
    grid: svg('g'),
    area: svg('path', { class: 'area' }),
    limit: svg('path', { class: 'limit' }),
    stroke: svg('path', { class: 'stroke' }),
    cursor: svg('path', { class: 'cursor' }),
  };
  const picture = svg('svg', { role: 'img' }, ...Object.values(parts));
  const told = el('span', { class: 'value' });
  parent.append(el('figure', { 'data-series': id }, el('figcaption', {}, el('span', {}, label), told), picture));

  let scale = null;
  picture.addEventListener('pointermove', ({ offsetX }) => onPoint(scale?.timeAt(offsetX) ?? null));
  picture.addEventListener('pointerleave', () => onPoint(null));
  return {
    draw(points, view, words) {
      const width = picture.clientWidth;
      if (width === 0) return;
      const shown = points.filter((point) => point.at_seconds > view.from);
      const max = niceMax(Math.max(1, ...shown.map(value), ...(limit ? shown.map(limit) : [])));
      scale = scaleOf(view, width, max);
      text(told, words);
      attrs(picture, {
        viewBox: `0 0 ${width} ${HEIGHT}`,
        'aria-label': `${label}, last hour: ${words}; at most ${Math.max(0, ...shown.map(value))}`,
      });
      const line = steps(shown, value, view, scale);
      attrs(parts.stroke, { d: line.stroke });
      attrs(parts.area, { d: line.area });
      attrs(parts.limit, { d: limit ? steps(shown, limit, view, scale).stroke : '' });
      const x = view.cursor === null ? null : scale.x(view.cursor);
      attrs(parts.cursor, { d: x === null ? '' : `M${x} ${ROOM.top}V${HEIGHT - ROOM.bottom}` });
      parts.grid.replaceChildren(...grid(view, scale, max));
    },
  };
}

function scaleOf({ from, to }, width, max) {
  const [left, right] = [ROOM.left, width - ROOM.right];
  const [top, bottom] = [ROOM.top, HEIGHT - ROOM.bottom];
  const round = (number) => Math.round(number * 10) / 10;
  return {
    left,
    right,
    bottom,
    x: (time) => round(left + ((Math.max(time, from) - from) / (to - from)) * (right - left)),
    y: (number) => round(bottom - (number / max) * (bottom - top)),
    timeAt: (x) => (x < left || x > right ? null : from + ((x - left) / (right - left)) * (to - from)),
  };
}

/** A point is true for the step before it. Where none is, the line is interrupted. */
function steps(points, value, { to, step }, { x, y, bottom }) {
  let stroke = '';
  let area = '';
  let end = null;
  for (const point of points) {
    const begin = point.at_seconds - step;
    const height = y(value(point));
    const isNew = end === null || begin - end > step / 2;
    if (isNew) {
      if (end !== null) area += `V${bottom}Z`;
      stroke += `M${x(begin)} ${height}`;
      area += `M${x(begin)} ${bottom}V${height}`;
    }
    end = point.at_seconds;
    const across = `V${height}H${x(Math.min(end, to))}`;
    stroke += across;
    area += across;
  }
  return { stroke, area: end === null ? '' : `${area}V${bottom}Z` };
}

function grid({ from, to }, { x, y, left, right }, max) {
  const lines = [0, max].flatMap((number) => [
    svg('path', { class: 'grid', d: `M${left} ${y(number)}H${right}` }),
    svg('text', { x: left - 6, y: y(number) + 4, 'text-anchor': 'end' }, String(number)),
  ]);
  const every = GRID.find((seconds) => (seconds / (to - from)) * (right - left) >= TIME_WIDTH) ?? GRID.at(-1);
  for (let time = Math.ceil(from / every) * every; time <= to; time += every) {
    const at = x(time);
    lines.push(svg('path', { class: 'grid', d: `M${at} ${y(max)}V${y(0)}` }));
    const anchor = at > right - 16 ? 'end' : at < left + 16 ? 'start' : 'middle';
    lines.push(svg('text', { x: at, y: HEIGHT - 6, 'text-anchor': anchor }, minuteOfDay(time)));
  }
  return lines;
}

/** 1, 2, 5, 10, 20, … */
function niceMax(number) {
  const power = 10 ** Math.floor(Math.log10(number));
  return [1, 2, 5, 10].map((factor) => factor * power).find((nice) => nice >= number);
}
