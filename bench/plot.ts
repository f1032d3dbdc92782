// Question: how does a figure look? Pure. Output: an SVG of its own, with a light ground, so that it
// can be read on a dark page too; no script, no font, nothing from elsewhere.

export type Line = { name: string; points: [number, number][] };
export type Axis = { label: string; logarithmic?: boolean };
export type Bar = { name: string; median: number; low: number; high: number };

const WIDTH = 720;
const HEIGHT = 400;
const LEFT = 70;
const RIGHT = 20;
const TOP = 64;
const BOTTOM = 52;
// Okabe and Ito's: to be told apart by everybody.
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

const escaped = (text: string) =>
  text.replace(/[&<>"]/g, (character) => `&#${character.codePointAt(0)};`);
const at = (value: number) => value.toFixed(1);
const text = (x: number, y: number, words: string, more = "") =>
  `<text x="${at(x)}" y="${at(y)}" ${more}>${escaped(words)}</text>`;

function frame(title: string, parts: string[], height = HEIGHT): string {
  const head =
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" ` +
    'font-family="sans-serif" font-size="12" fill="#222">';
  const ground = `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`;
  const heading = text(LEFT, 22, title, 'font-size="15" font-weight="bold"');
  return `${[head, `<title>${escaped(title)}</title>`, ground, heading, ...parts, "</svg>"].join("\n")}\n`;
}

/** A mark, a name and some space; letters are about so wide. */
const legendWidth = (name: string) => 44 + 6.4 * name.length;

/** Round numbers: of a logarithmic axis 1, 2 and 5 of each decade that the range touches. */
export function ticks(low: number, high: number, logarithmic = false): number[] {
  if (logarithmic) {
    const decades = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
      decades.push(...[1, 2, 5].map((digit) => Number((digit * 10 ** e).toPrecision(1))));
    const inside = decades.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
    return inside.length > 8 ? inside.filter((tick) => /^[^25]*$/.test(`${tick}`)) : inside;
  }
  const raw = (high - low) / 5 || 1;
  const decade = 10 ** Math.floor(Math.log10(raw));
  const step = decade * ([1, 2, 5, 10].find((digit) => digit * decade >= raw) ?? 10);
  const count = Math.floor((high - low) / step + 1e-9) + 1;
  return Array.from({ length: count }, (_, i) => Number((low + i * step).toPrecision(6)));
}

/** From 0, or on a logarithmic axis from the least value, to the greatest. */
function scaleOf(values: number[], { logarithmic = false }: Axis, from: number, to: number) {
  const low = logarithmic ? Math.min(...values) : 0;
  const high = Math.max(...values) * (logarithmic ? 1 : 1.05) || 1;
  const map = logarithmic ? Math.log10 : (value: number) => value;
  const span = map(high) - map(low) || 1;
  const place = (value: number) => from + ((map(value) - map(low)) / span) * (to - from);
  return { place, marks: ticks(low, high, logarithmic) };
}

export function lines(title: string, x: Axis, y: Axis, series: Line[]): string {
  const all = series.flatMap(({ points }) => points);
  const bottom = HEIGHT - BOTTOM;
  const [across, up] = [
    scaleOf(
      all.map(([value]) => value),
      x,
      LEFT,
      WIDTH - RIGHT,
    ),
    scaleOf(
      all.map(([, value]) => value),
      y,
      bottom,
      TOP,
    ),
  ];
  const grid = up.marks.flatMap((mark) => [
    `<path d="M${LEFT} ${at(up.place(mark))}H${WIDTH - RIGHT}" stroke="#ddd"/>`,
    text(LEFT - 8, up.place(mark) + 4, `${mark}`, 'text-anchor="end"'),
  ]);
  const below = across.marks.map((mark) =>
    text(across.place(mark), bottom + 18, `${mark}`, 'text-anchor="middle"'),
  );
  const axes = [
    `<path d="M${LEFT} ${TOP}V${bottom}H${WIDTH - RIGHT}" fill="none" stroke="#222"/>`,
    text((LEFT + WIDTH) / 2, HEIGHT - 12, x.label, 'text-anchor="middle"'),
    text(12, TOP - 8, y.label),
  ];
  const drawn = series.flatMap(({ name, points }, i) => {
    const colour = COLOURS[i % COLOURS.length];
    const places = points.map(([h, v]): [number, number] => [across.place(h), up.place(v)]);
    const path = places.map(([h, v], j) => `${j ? "L" : "M"}${at(h)} ${at(v)}`).join("");
    const dots = points.length > 20 ? [] : places;
    const before = series.slice(0, i).reduce((sum, each) => sum + legendWidth(each.name), 0);
    const legend = { x: LEFT + before, y: 42 };
    return [
      `<path d="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`,
      ...dots.map(([h, v]) => `<circle cx="${at(h)}" cy="${at(v)}" r="3" fill="${colour}"/>`),
      `<path d="M${at(legend.x)} ${legend.y - 4}h18" stroke="${colour}" stroke-width="3"/>`,
      text(legend.x + 24, legend.y, name),
    ];
  });
  return frame(title, [...grid, ...below, ...axes, ...drawn]);
}

/** One above the other, each with its median and a mark from quartile to quartile. */
export function bars(title: string, x: Axis, rows: Bar[]): string {
  const left = 200;
  const step = 34;
  const bottom = TOP + rows.length * step;
  const values = rows.flatMap(({ median, low, high }) => [median, low, high]);
  const from = x.logarithmic ? values.concat(Math.min(...values) / 2) : values;
  const across = scaleOf(from, x, left, WIDTH - RIGHT - 60);
  const drawn = rows.flatMap(({ name, median, low, high }, i) => {
    const y = TOP + i * step;
    const end = across.place(median);
    return [
      text(left - 8, y + 18, name, 'text-anchor="end"'),
      `<rect x="${left}" y="${y + 4}" width="${at(end - left)}" height="20" fill="${COLOURS[i === 0 ? 1 : 0]}"/>`,
      `<path d="M${at(across.place(low))} ${y + 14}H${at(across.place(high))}" stroke="#222"/>`,
      text(Math.max(end, across.place(high)) + 6, y + 18, `${median}`),
    ];
  });
  const below = across.marks.map((mark) =>
    text(across.place(mark), bottom + 16, `${mark}`, 'text-anchor="middle"'),
  );
  const axis = [
    `<path d="M${left} ${TOP}V${bottom}H${WIDTH - RIGHT}" fill="none" stroke="#222"/>`,
    text((left + WIDTH) / 2, bottom + 36, x.label, 'text-anchor="middle"'),
  ];
  return frame(title, [...drawn, ...below, ...axis], bottom + 52);
}
