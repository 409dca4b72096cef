// Draws a picture of shapes, one a line (`box red 3 0 6 4`), from the numbers read; docs/music_and_drawing.md has the
// form, and pipeline/texts/shape_pictures.py the same numbers and colours.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 24;
const HEIGHT = 16;
const GROUND = 2;
const MOST_SHAPES = 60;
const COLOURS = {
  red: "#c0392b", blue: "#2e6da4", white: "#ffffff", grey: "#8d949b", brown: "#7a4a21", green: "#2e8b57",
  orange: "#e67e22", yellow: "#f4c20d",
};
const [SKY, GRASS, EDGE] = ["#cfe8f7", "#9bc587", "#333333"];
const LINE = /^(?:(box|tri) (\w+) (\d{1,2}) (\d{1,2}) (\d{1,2}) (\d{1,2})|(disc) (\w+) (\d{1,2}) (\d{1,2}) (\d{1,2}))$/;

export async function load() {}

/** The picture of a completion's lines: {picture, problem, play}; see abc.js. */
export function render(prompt, completion, label) {
  const lines = completion.split("\n").map((line) => line.trim()).filter(Boolean);
  const shapes = lines.map(shapeOf);
  const unread = shapes.filter((shape) => !shape).length;
  if (unread === shapes.length) {
    return { picture: null, problem: lines.length ? "No line of this is a shape." : "Nothing is drawn.", play: null };
  }
  const svg = node("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT + GROUND}`, role: "img", class: "scene", "aria-label": label });
  svg.append(node("rect", { width: WIDTH, height: HEIGHT, fill: SKY }));
  svg.append(node("rect", { y: HEIGHT, width: WIDTH, height: GROUND, fill: GRASS }));
  svg.append(...shapes.filter(Boolean).slice(0, MOST_SHAPES));
  const problem = unread ? `${unread} ${unread === 1 ? "line is" : "lines are"} no shape: see the text.` : "";
  return { picture: svg, problem, play: null };
}

function shapeOf(line) {
  const match = LINE.exec(line);
  const colour = match && (match[2] ?? match[8]);
  if (!match || !Object.hasOwn(COLOURS, colour)) return null;
  const look = { fill: COLOURS[colour], stroke: EDGE, "stroke-width": 0.12, "stroke-linejoin": "round" };
  if (match[7]) {
    const [x, y, r] = match.slice(9, 12).map(Number);
    return node("circle", { cx: x, cy: HEIGHT - y, r, ...look });
  }
  const [x, y, w, h] = match.slice(3, 7).map(Number);
  if (match[1] === "box") return node("rect", { x, y: HEIGHT - y - h, width: w, height: h, ...look });
  const [base, tip] = [HEIGHT - y, HEIGHT - y - h];
  return node("path", { d: `M${x} ${base}L${x + w} ${base}L${x + w / 2} ${tip}Z`, ...look });
}

function node(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
