// The page of the HTML report. What rows say is only ever text here: elements are made one by one, never parsed from
// strings. Lists and pictures are drawn as far as they can be seen, so that 10,000 cases are no more work than 50.

// --- elements --------------------------------------------------------------------------------------------------------

const $ = (id) => document.getElementById(id);

/** An element with its attributes and children. Strings become text; functions listen; what is null is left out. */
function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** One of the icons that the template has. */
function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", `icon icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

const status = (name) => h("span", { class: `status status-${name}` }, icon(name), name);

// --- numbers as people read them -------------------------------------------------------------------------------------

const count = new Intl.NumberFormat("en-US").format;
const plural = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;

function money(usd) {
  if (usd == null) return "";
  return "$" + usd.toFixed(usd >= 1 || usd === 0 ? 2 : usd >= 0.001 ? 4 : 6);
}

function duration(ms) {
  if (ms == null) return "";
  if (ms < 1000) return `${Math.round(ms)}ms`;
  if (ms < 60000) return `${Number((ms / 1000).toPrecision(3))}s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)}m ${String(seconds % 60).padStart(2, "0")}s`;
}

// --- the cases -------------------------------------------------------------------------------------------------------

const data = JSON.parse($("data").textContent);
const cases = data.cases;
const RANK = { error: 0, failed: 1, passed: 4 }; // a failed case that is tolerated is 2, a flaky one that passed is 3

/** Put back the texts that are given once, and add what the table shows and sorts by. */
function prepare() {
  const texts = [];
  const restored = (text) => {
    if (typeof text === "number") return texts[text];
    if (text?.shared) texts.push(text);
    return text;
  };
  cases.forEach((each, number) => {
    each.number = number;
    each.variant = variantOf(each.matrix);
    each.system = restored(each.system);
    for (const message of each.messages) message.text = restored(message.text);
    const usages = each.runs.flatMap((run) => [run, ...run.judgements].map((one) => one.usage)).filter(Boolean);
    each.input = usages.length ? sum(usages.map((usage) => usage.input_tokens)) : null;
    each.output = usages.length ? sum(usages.map((usage) => usage.output_tokens)) : null;
    each.cost = sumOfKnown(each.runs.map((run) => run.cost));
    each.latency = median(latenciesOf([each]));
    each.hash = hashOf(each.job, each.id);
  });
}

const hashOf = (job, id) => `#${encodeURIComponent(job)}/${encodeURIComponent(id)}`;

const variantOf = (matrix) => matrix.map(([name, value]) => `${name}=${value}`).join(", ");

/** The variant without the model, which has a column of its own. */
const shortVariant = (each) => variantOf(each.matrix.filter(([name]) => name !== "model"));

const sum = (values) => values.reduce((total, value) => total + value, 0);

function sumOfKnown(values) {
  const known = values.filter((value) => value != null);
  return known.length ? sum(known) : null;
}

const latenciesOf = (found) => found.flatMap((each) => each.runs).map((run) => run.latency).filter((value) => value != null);

function median(values) {
  return values.length ? values.sort((a, b) => a - b)[Math.ceil(values.length / 2) - 1] : null;
}

const passes = (each) => each.runs.filter((run) => run.status === "passed").length;
const isRepeated = (each) => each.runs.length > 1 || each.repeats > 1;

/** Whether its repetitions disagree, whatever that makes of the case. */
const isFlaky = (each) => passes(each) > 0 && passes(each) < each.runs.length;

const rank = (each) => RANK[each.status] + each.tolerated - (each.status === "passed" && isFlaky(each));

/** A text of the data: as it is, or as `{text, length, shared}`, with a `length` if it was cut. */
const textOf = (text) => (text == null ? "" : typeof text === "object" ? text.text : text);

/** The repetition that tells the most: the first of those that decided the case's status. */
const tellingRun = (each) => each.runs.find((run) => run.status === each.status) ?? each.runs[0];

function reason(each) {
  const run = tellingRun(each);
  if (run.error) return `${textOf(run.error.code)}: ${textOf(run.error.message)}`;
  const verdict = each.status === "failed" && run.verdicts.find((one) => !one.passed);
  return verdict ? textOf(verdict.reason) : "";
}

const reply = (each) => tellingRun(each).brief ?? textOf(tellingRun(each).replies.at(-1)?.text);
const imagesOf = (each) => each.messages.flatMap((message) => message.images);
const excerpt = (text) => text.slice(0, 400).replace(/\s+/g, " ").trim();

// --- search, filters, order ------------------------------------------------------------------------------------------

let index = null;

/** For each case what search looks through, in lower case. It is made once, when there is time or need. */
function searchIndex() {
  index ??= cases.map((each) => {
    const parts = [each.id, each.variant, each.model, ...each.tags, ...each.vars.flat().map(textOf), ...imagesOf(each).map((image) => image.path)];
    for (const run of each.runs) {
      parts.push(...run.replies.map((one) => textOf(one.text)));
      parts.push(...run.verdicts.map((one) => textOf(one.reason)));
      if (run.error) parts.push(textOf(run.error.code), textOf(run.error.message), run.error.request_id ?? "");
    }
    return parts.join("\n").toLowerCase();
  });
  return index;
}

const state = { search: "", status: "", job: "", model: "", tag: "", sort: "", descending: false, view: "table" };
let shown = []; // cases that pass the filters, in order
let active = -1; // position in `shown` that the keyboard is at
let opened = null; // the case that the pane shows

const collator = new Intl.Collator("en", { numeric: true });
const COLUMNS = [
  { key: "status", title: "Status", value: rank },
  { key: "position", title: "#", told: "Position", number: true, value: (each) => each.number },
  { key: "case", title: "Case", value: (each) => each.id },
  { key: "job", title: "Job", value: (each) => each.job },
  { key: "model", title: "Model", value: (each) => each.model },
  { key: "result", title: "Result", value: (each) => reason(each) || excerpt(reply(each)) },
  { key: "latency", title: "Latency", number: true, value: (each) => each.latency },
  { key: "input", title: "In", told: "Tokens in", number: true, value: (each) => each.input },
  { key: "output", title: "Out", told: "Tokens out", number: true, value: (each) => each.output },
  { key: "cost", title: "Cost", number: true, value: (each) => each.cost },
];

function wordsOf(search) {
  return [...search.toLowerCase().matchAll(/"([^"]+)"|([^\s"]+)/g)].map((found) => found[1] ?? found[2]);
}

function matching() {
  const words = wordsOf(state.search);
  const texts = words.length ? searchIndex() : [];
  return cases.filter(
    (each) =>
      (!state.job || each.job === state.job) &&
      (!state.model || each.model === state.model) &&
      (!state.tag || each.tags.includes(state.tag)) &&
      words.every((word) => texts[each.number].includes(word)),
  );
}

function ordered(found) {
  const column = COLUMNS.find((one) => one.key === state.sort);
  // What needs a look comes first, unless another order is asked for.
  if (!column) return found.sort((a, b) => rank(a) - rank(b) || a.number - b.number);
  const keys = new Map(found.map((each) => [each, column.value(each)]));
  const sign = state.descending ? -1 : 1;
  return found.sort((a, b) => {
    const [x, y] = [keys.get(a), keys.get(b)];
    if (x == null || y == null) return (x == null) - (y == null) || a.number - b.number;
    const order = typeof x === "string" ? collator.compare(x, y) : x - y;
    return sign * order || a.number - b.number;
  });
}

/** Find the cases that the filters let through, and show them. */
function update() {
  const kept = shown[active];
  const found = matching();
  const counts = { "": found.length, passed: 0, failed: 0, error: 0 };
  for (const each of found) counts[each.status] += 1;
  shown = ordered(state.status ? found.filter((each) => each.status === state.status) : found);
  active = shown.indexOf(opened ?? kept);
  drawStatuses(counts);
  $("shown").textContent = shown.length === cases.length ? count(cases.length) : `${count(shown.length)} of ${count(cases.length)}`;
  drawList();
}

// --- a list of which only the part in sight is in the document -------------------------------------------------------

const MOST_PRINTED = 1000;
const BEYOND = 900; // pixels above and below what can be seen that are drawn too

/**
 * Keeps the rows of `body` that can be seen, between two spacers. `height` is what a row takes until one is measured,
 * `columns` is how many cases stand in it.
 */
class VirtualList {
  constructor(body, { height, length, draw, spacer, columns = 1 }) {
    Object.assign(this, { body, height, length, draw, columns });
    this.top = spacer();
    this.bottom = spacer();
    this.redraw();
  }

  /** The rows that can be seen, with some more above and below. */
  range() {
    const frame = this.body.closest(".scroll-list")?.getBoundingClientRect() ?? { top: 0, bottom: innerHeight };
    const top = this.top.isConnected ? this.top.getBoundingClientRect().top : 0;
    const more = Math.ceil(BEYOND / this.height);
    const first = Math.floor((Math.max(frame.top, 0) - top) / this.height) - more;
    const last = Math.ceil((Math.min(frame.bottom, innerHeight) - top) / this.height) + more;
    return [Math.min(Math.max(first, 0), this.length), Math.min(Math.max(last, 0), this.length)];
  }

  /** Draw every row anew. */
  redraw() {
    this.rows = new Map(); // by position
    this.from = this.to = -1;
    this.fit();
  }

  /** Show what can be seen after the room for it, and so the height of a row, may have changed. */
  fit() {
    this.refresh();
    const measured = this.from < this.to ? this.body.children[1].getBoundingClientRect().height : 0;
    if (measured && measured !== this.height) {
      this.height = measured;
      this.show(...this.range());
    }
  }

  refresh() {
    const [from, to] = this.range();
    if (from !== this.from || to !== this.to) this.show(from, to);
  }

  /** Rows that are there already stay the elements that they are: a picture drawn anew would flicker. */
  show(from, to) {
    [this.from, this.to] = [from, to];
    const before = this.rows;
    this.rows = new Map();
    for (let position = from; position < to; position++) this.rows.set(position, before.get(position) ?? this.draw(position));
    this.top.style.height = `${from * this.height}px`;
    this.bottom.style.height = `${(this.length - to) * this.height}px`;
    this.body.replaceChildren(this.top, ...this.rows.values(), this.bottom);
  }

  /** In which row a case stands. */
  rowOf(position) {
    return Math.floor(position / this.columns);
  }

  /** How many cases can be seen at once. */
  get page() {
    return Math.max(1, Math.floor(innerHeight / this.height) - 1) * this.columns;
  }

  /** Scroll so far that a case can be seen, below what sticks to the top. */
  reveal(position) {
    const top = this.top.getBoundingClientRect().top + this.rowOf(position) * this.height;
    const head = $("list").querySelector("thead")?.getBoundingClientRect().bottom ?? 0;
    const least = Math.max(head, $("cases").querySelector(".toolbar").getBoundingClientRect().bottom, 0);
    if (top < least) scrollBy(0, top - least - 4);
    else if (top + this.height > innerHeight) scrollBy(0, top + this.height - innerHeight + 4);
  }
}

let list = null;
const spacerRow = () => h("tr", { class: "spacer", "aria-hidden": "true" }, h("td"));

/** What the keyboard moves in: the list or the pictures. Side by side there are links instead. */
const grid = () => $("list").querySelector("[role=grid]");

/** Put a grid in its place. If the one before had the focus, it has it. */
function placeGrid(element) {
  const focused = grid() && document.activeElement === grid();
  $("list").replaceChildren(element);
  if (focused) element.focus({ preventScroll: true });
}

/** What marks the element of a case in a grid as the one that the keyboard is at, and as the one that is open. */
const marks = (each) => ({ id: `case-${each.number}`, "aria-selected": String(each === opened) });
const activeMark = (each) => (each === shown[active] ? "active" : "");

// --- the table of cases ----------------------------------------------------------------------------------------------

function drawTable() {
  const head = COLUMNS.map((column) => {
    const sorted = state.sort === column.key;
    const direction = sorted ? (state.descending ? "descending" : "ascending") : "none";
    const arrow = h("span", { class: "arrow", "aria-hidden": "true" }, sorted ? (state.descending ? "▼" : "▲") : "");
    return h(
      "th",
      { scope: "col", "aria-sort": direction, class: `col-${column.key}${column.number ? " number" : ""}` },
      h(
        "button",
        { type: "button", title: `Sort by ${(column.told ?? column.title).toLowerCase()}`, click: () => sortBy(column.key) },
        column.told ? h("span", { class: "unseen" }, column.told) : null,
        column.told ? h("span", { "aria-hidden": "true" }, column.title) : column.title,
        arrow,
      ),
    );
  });
  const body = h("tbody", { role: "rowgroup" });
  const table = h(
    "table",
    {
      class: "case-table",
      id: "table",
      role: "grid",
      tabindex: "0",
      "aria-label": "Cases",
      "aria-rowcount": String(shown.length + 1),
    },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)),
    body,
  );
  placeGrid(table);
  list = new VirtualList(body, { height: 56, length: shown.length, draw: tableRow, spacer: spacerRow });
  markActive();
}

function tableRow(position) {
  const each = shown[position];
  const why = reason(each);
  const variant = shortVariant(each);
  const cell = (name, ...content) => h("td", { class: `col-${name}`, role: "gridcell" }, content);
  const number = (name, content) => h("td", { class: `col-${name} number`, role: "gridcell" }, content);
  return h(
    "tr",
    {
      ...marks(each),
      role: "row",
      class: activeMark(each),
      "aria-rowindex": String(position + 2),
      click: (event) => onRowClick(event, each),
    },
    cell("status", status(each.status), toleratedMark(each), repetitionsMark(each)),
    number("position", count(each.position)),
    cell(
      "case",
      h("a", { href: each.hash, tabindex: "-1", class: "line case-id", title: each.id }, base(each)),
      h("span", { class: "line dim" }, variant, h("span", { class: "case-model" }, variant ? " · " : "", each.model)),
    ),
    cell("job", h("span", { class: "line" }, each.job)),
    cell("model", h("span", { class: "clamp dim" }, each.model)),
    cell("result", h("span", { class: `clamp ${why ? `told-${each.status}` : "dim"}` }, excerpt(why || reply(each)) || "an empty reply")),
    number("latency", duration(each.latency)),
    number("input", each.input == null ? "" : count(each.input)),
    number("output", each.output == null ? "" : count(each.output)),
    number("cost", money(each.cost)),
  );
}

const base = (each) => each.base || each.id;
const repetitions = (each) => `${passes(each)} of ${each.repeats} passed`;

/** How many repetitions passed, of a case that has some; it stands out where they disagree. */
function repetitionsMark(each) {
  if (!isRepeated(each)) return null;
  const told = `${isFlaky(each) ? "flaky, " : ""}${passes(each)} of ${each.repeats}`;
  return h("span", { class: `repetitions ${isFlaky(each) ? "flaky" : "dim"}`, title: repetitions(each) }, told);
}

/** That the thresholds of its job allow a case to have failed. */
const toleratedMark = (each) => (each.tolerated ? h("span", { class: "repetitions dim" }, "tolerated") : null);

function onRowClick(event, each) {
  if (event.ctrlKey || event.metaKey || event.shiftKey || String(getSelection())) return;
  event.preventDefault();
  open(each);
}

function sortBy(key) {
  if (state.sort !== key) [state.sort, state.descending] = [key, false];
  else if (!state.descending) state.descending = true;
  else [state.sort, state.descending] = ["", false];
  $("sort").value = state.sort;
  update();
  $("list").querySelector(`.col-${key} button`)?.focus({ preventScroll: true });
}

// --- variants side by side -------------------------------------------------------------------------------------------

const jobsWithVariants = () => [...new Set(cases.filter((each) => each.variant).map((each) => each.job))];

function drawMatrix() {
  const job = state.job || jobsWithVariants()[0];
  const variants = new Map();
  const rows = new Map();
  for (const each of cases) {
    if (each.job !== job || !each.variant) continue;
    if (!variants.has(each.variant)) variants.set(each.variant, []);
    variants.get(each.variant).push(each);
  }
  for (const each of [...shown].sort((a, b) => a.number - b.number)) {
    if (each.job !== job || !each.variant) continue;
    if (!rows.has(each.base)) rows.set(each.base, new Map());
    rows.get(each.base).set(each.variant, each);
  }
  if (!rows.size) {
    list = null;
    const none = variants.size ? "No case passes the filters." : `${job} has no matrix: its cases have one variant.`;
    $("list").replaceChildren(h("p", { class: "empty" }, none));
    return;
  }
  const names = [...variants.keys()];
  const lines = [...rows];
  const head = h(
    "tr",
    {},
    h("th", { scope: "col" }, job),
    names.map((name) => h("th", { scope: "col" }, h("span", { class: "clamp" }, name), matrixTotals(variants.get(name)))),
  );
  const body = h("tbody");
  const table = h("table", { class: "matrix" }, h("thead", {}, head), body);
  table.style.minWidth = `${10 + 15 * names.length}rem`;
  const others = !state.job && jobsWithVariants().length > 1;
  const note = others ? h("p", { class: "note" }, `These are the variants of ${job}; choose another job above.`) : "";
  const frame = h("div", { class: "scroll-list", tabindex: "0", role: "region", "aria-label": `Variants of ${job}` }, table);
  $("list").replaceChildren(note, frame);
  const draw = (position) => {
    const [name, found] = lines[position];
    return h("tr", {}, h("th", { scope: "row" }, h("span", { class: "clamp" }, name || "the case")), names.map((each) => matrixCell(found.get(each))));
  };
  list = new VirtualList(body, { height: 112, length: lines.length, draw, spacer: spacerRow });
}

function matrixTotals(found) {
  const passed = found.filter((each) => each.status === "passed").length;
  const cost = sumOfKnown(found.map((each) => each.cost));
  const latency = median(latenciesOf(found));
  const parts = [`${count(passed)} of ${count(found.length)} passed`];
  if (latency != null) parts.push(`p50 ${duration(latency)}`);
  if (cost != null) parts.push(money(cost));
  return h("span", { class: "dim totals" }, parts.join(" · "));
}

function matrixCell(each) {
  if (!each) return h("td", { class: "dim" }, h("span", { class: "matrix-cell" }, "–"));
  const why = reason(each);
  return h(
    "td",
    { class: each === opened ? "opened" : null },
    h(
      "a",
      { href: each.hash, class: "matrix-cell", click: (event) => onRowClick(event, each) },
      h("span", { class: "matrix-top" }, status(each.status), toleratedMark(each), repetitionsMark(each), h("span", { class: "dim" }, duration(each.latency))),
      h("span", { class: `clamp ${why ? `told-${each.status}` : ""}` }, excerpt(why || reply(each)) || "an empty reply"),
    ),
  );
}

// --- pictures --------------------------------------------------------------------------------------------------------

const NARROWEST_PICTURE = 200; // pixels, as of GAP
const NARROWEST_ON_PHONES = 148;
const GAP = 16;

const hasPicture = (each) => imagesOf(each).some((image) => image.thumbnail != null);

function pictureColumns() {
  const width = $("list").clientWidth;
  const least = width < 560 ? NARROWEST_ON_PHONES : NARROWEST_PICTURE;
  return Math.max(1, Math.floor((width + GAP) / (least + GAP)));
}

function drawPictures() {
  const columns = pictureColumns();
  const pictures = h("div", {
    class: "pictures",
    id: "pictures",
    role: "grid",
    tabindex: "0",
    "aria-label": "Cases, as pictures",
    "aria-rowcount": String(Math.ceil(shown.length / columns)),
    "aria-colcount": String(columns),
  });
  pictures.style.setProperty("--columns", columns);
  placeGrid(pictures);
  const severalJobs = new Set(cases.map((each) => each.job)).size > 1;
  const told = (each) => [severalJobs ? each.job : "", each.variant].filter(Boolean).join(" · ");
  const origin = severalJobs || jobsWithVariants().length ? told : null;
  const draw = (row) => {
    const tiles = shown.slice(row * columns, (row + 1) * columns).map((each) => pictureTile(each, origin));
    return h("div", { class: "picture-row", role: "row", "aria-rowindex": String(row + 1) }, tiles);
  };
  const spacer = () => h("div", { class: "spacer", "aria-hidden": "true" });
  list = new VirtualList(pictures, { height: 356, length: Math.ceil(shown.length / columns), columns, draw, spacer });
  markActive();
}

/** A case with its first picture. `origin` says of which job and variant it is, where there are several. */
function pictureTile(each, origin) {
  const images = imagesOf(each);
  return h(
    "div",
    { ...marks(each), role: "gridcell", class: `picture ${activeMark(each)}`, click: (event) => onRowClick(event, each) },
    h(
      "div",
      { class: "picture-frame" },
      images.length ? framed(images[0]) : placeholder(each.status === "error" ? "" : "the case has none"),
      images.length > 1 ? h("span", { class: "picture-count" }, `1 of ${images.length}`) : null,
    ),
    h("a", { href: each.hash, tabindex: "-1", class: "case-id picture-name", title: each.id }, nameParts(base(each))),
    origin ? h("span", { class: "line dim" }, origin(each)) : null,
    h("div", { class: "picture-caption" }, caption(each)),
    h("p", { class: "picture-foot" }, status(each.status), toleratedMark(each), repetitionsMark(each), h("span", { class: "dim" }, duration(each.latency))),
  );
}

/** An id in two parts, of a path its folder and its name: where there is no room for both, the folder is cut. */
function nameParts(id) {
  const end = id.lastIndexOf("/") + 1;
  return [h("span", { class: "line dim" }, id.slice(0, end)), h("span", { class: "line" }, id.slice(end))];
}

/** What stands in the place of a picture, and why, unless the card tells it anyway. */
const placeholder = (why) => h("p", { class: "dim", title: why }, "no picture", why && h("span", { class: "clamp" }, why));

/** An image as the tile shows it or, where there is no thumbnail of it, its name and why. */
function framed(image) {
  if (image.thumbnail != null) {
    return h("img", { src: data.thumbnails[image.thumbnail], alt: image.path, loading: "lazy", decoding: "async", draggable: "false" });
  }
  return placeholder(image.missing.includes(image.path) ? image.missing : `${image.path}: ${image.missing}`);
}

/** What the model said of it: why that does not do, the fields of a reply that is JSON, else the text. */
function caption(each) {
  const why = reason(each);
  const fields = tellingRun(each).fields;
  const told = excerpt(reply(each)) || (why ? null : "an empty reply");
  return [
    why ? h("span", { class: `clamp told-${each.status}` }, excerpt(why)) : null,
    fields ? fieldLines(fields, why ? 3 : CAPTION_LINES) : told && h("span", { class: "clamp" }, told),
  ];
}

const CAPTION_LINES = 6;
const SHORT = 16; // characters of a field of which several stand in a line

/** Fields of a reply in so many lines: the first long one has those that the others leave, short ones share the last. */
function fieldLines(fields, lines) {
  const named = ([name, value]) => h("span", { class: "field" }, name ? h("span", { class: "dim" }, `${name} `) : null, excerpt(value));
  const isShort = ([name, value]) => name.length + value.length < SHORT;
  const long = fields.filter((field) => !isShort(field));
  const short = fields.filter(isShort);
  const shared = short.length ? (long.length ? 1 : lines) : 0;
  const first = Math.max(1, lines - shared - long.slice(1).length);
  const clamped = (content, most) => {
    const element = h("span", { class: "clamp" }, content);
    element.style.setProperty("--lines", most);
    return element;
  };
  return [
    long.map((field, position) => clamped(named(field), position ? 1 : first)),
    short.length ? clamped(short.flatMap((field, position) => [position ? " " : "", named(field)]), shared) : null,
  ];
}

// --- which of them is shown ------------------------------------------------------------------------------------------

const VIEWS = {
  table: { title: "List", draw: drawTable, columns: () => 1, isOffered: () => true },
  matrix: { title: "Side by side", draw: drawMatrix, columns: () => 1, isOffered: () => jobsWithVariants().length > 0 },
  pictures: { title: "Pictures", draw: drawPictures, columns: pictureColumns, isOffered: () => cases.some((each) => imagesOf(each).length) },
};

/** Tell the style how high what sticks to the top is: the head of the list sticks below it. */
function measureToolbar() {
  const toolbar = $("cases").querySelector(".toolbar");
  const sticks = getComputedStyle(toolbar).position === "sticky";
  $("list").style.setProperty("--toolbar", `${sticks ? toolbar.offsetHeight : 0}px`);
}

function drawList() {
  $("cases").classList.toggle("without-columns", state.view === "pictures"); // to sort by
  measureToolbar();
  if (!shown.length && state.view !== "matrix") {
    list = null;
    const none = cases.length ? "No case passes the filters. " : "There are no rows.";
    const reset = h("button", { type: "button", click: resetFilters }, "Show all cases");
    $("list").replaceChildren(h("p", { class: "empty" }, none, cases.length ? reset : null));
    return;
  }
  VIEWS[state.view].draw();
}

/** After the room for the list has changed. What is drawn stays, as long as the same number of cases fits in a row. */
function fitList() {
  measureToolbar();
  if (list?.columns === VIEWS[state.view].columns()) list.fit();
  else drawList();
}

function resetFilters() {
  Object.assign(state, { search: "", status: "", job: "", model: "", tag: "" });
  for (const id of ["search", "job", "model", "tag"]) $(id).value = "";
  update();
}

// --- controls --------------------------------------------------------------------------------------------------------

function chip(title, pressed, click) {
  return h("button", { type: "button", class: "chip", "aria-pressed": String(pressed), click }, title);
}

function drawStatuses(counts) {
  const focused = [...$("statuses").children].indexOf(document.activeElement);
  const chips = ["", "passed", "failed", "error"].map((name) =>
    chip(
      [name ? icon(name) : null, name || "all", h("span", { class: "dim" }, count(counts[name]))],
      state.status === name,
      () => {
        state.status = name;
        update();
      },
    ),
  );
  $("statuses").replaceChildren(...chips);
  if (focused >= 0) chips[focused].focus();
}

function drawViews() {
  const offered = Object.entries(VIEWS).filter(([, view]) => view.isOffered());
  $("views").hidden = offered.length < 2;
  const chips = offered.map(([name, view]) =>
    chip(view.title, state.view === name, () => {
      state.view = name;
      drawViews();
      drawList();
      [...$("views").children].find((one) => one.getAttribute("aria-pressed") === "true").focus();
    }),
  );
  $("views").replaceChildren(...chips);
}

/** A choice among the values that the cases have; hidden where there is none to make. */
function fillFilter(key, values, all) {
  const names = [...new Set(values)].sort(collator.compare);
  $(`${key}-filter`).hidden = names.length < (key === "tag" ? 1 : 2);
  document.body.classList.toggle(`one-${key}`, names.length < 2);
  $(key).append(h("option", { value: "" }, all), ...names.map((name) => h("option", { value: name }, name)));
  $(key).addEventListener("change", () => {
    state[key] = $(key).value;
    update();
  });
}

function fillControls() {
  fillFilter("job", cases.map((each) => each.job), "all jobs");
  fillFilter("model", cases.map((each) => each.model), "all models");
  fillFilter("tag", cases.flatMap((each) => each.tags), "all tags");
  const orders = COLUMNS.map((column) => h("option", { value: column.key }, (column.told ?? column.title).toLowerCase()));
  $("sort").append(h("option", { value: "" }, "what needs a look"), ...orders);
  $("sort").addEventListener("change", () => {
    [state.sort, state.descending] = [$("sort").value, ["latency", "input", "output", "cost"].includes($("sort").value)];
    update();
  });
  let waiting = 0;
  $("search").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      state.search = $("search").value;
      update();
    }, 120);
  });
  drawViews();
}

// --- the pane: one case ----------------------------------------------------------------------------------------------

const LONG = 3000; // characters of which the rest is shown when asked for

function section(title, ...content) {
  const parts = content.flat(Infinity).filter(Boolean);
  return parts.length ? h("section", {}, h("h3", {}, title), parts) : null;
}

/** A text of the data with its line breaks. A long one can be opened; of one that was cut it says where it is whole. */
function block(text, each, name = "") {
  const whole = textOf(text);
  const pre = h("pre", { class: name, dir: "auto" }, whole.slice(0, LONG));
  const parts = [pre];
  if (whole.length > LONG) {
    const more = h("button", { type: "button", class: "more", click: () => {
      pre.textContent = whole;
      more.remove();
    } }, `Show all ${count(whole.length)} characters`);
    parts.push(more);
  }
  if (typeof text === "object" && text?.length) parts.push(cutNote(text, each));
  return parts;
}

function cutNote(text, each) {
  const place = data.outputs[each.job] ?? "the file of rows";
  return h("p", { class: "note" }, `Cut here. The whole text has ${count(text.length)} characters and is in ${place}.`);
}

function factList(facts) {
  const known = facts.filter(([, value]) => value != null && value !== "");
  return known.length ? h("dl", { class: "facts" }, known.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))) : null;
}

function errorCard(error, each) {
  if (!error) return null;
  return h(
    "div",
    { class: "alert alert-error" },
    h("p", {}, icon("error"), " ", h("strong", {}, textOf(error.code))),
    block(error.message, each, "prose"),
    error.hint ? h("p", { class: "hint" }, h("strong", {}, "What to do: "), textOf(error.hint)) : null,
    factList([
      ["HTTP status", error.http_status],
      ["request id", textOf(error.request_id)],
      ["may succeed later", error.retryable ? "yes" : "no"],
    ]),
  );
}

/** An assertion and what came of it; what a judge said of it, and the parts of a set, stand in it. */
function verdictCard(verdict, each, run) {
  const name = verdict.passed ? "passed" : "failed";
  const compared = !verdict.passed && verdict.actual != null;
  return h(
    "div",
    { class: `verdict-card verdict-card-${name}` },
    h("p", { class: "verdict-head" }, status(name), h("code", {}, textOf(verdict.type)), h("span", { class: "dim place" }, textOf(verdict.place))),
    compared ? null : block(verdict.reason, each, "prose"),
    compared
      ? h(
          "dl",
          { class: "compared" },
          h("div", {}, h("dt", {}, "Expected"), h("dd", {}, block(verdict.expected, each))),
          h("div", {}, h("dt", {}, "Actual"), h("dd", {}, block(verdict.actual, each))),
        )
      : null,
    verdict.judgement == null ? null : judgementParts(run.judgements[verdict.judgement], each),
    verdict.score == null || verdict.judgement != null ? null : h("p", { class: "dim" }, `score ${score(verdict.score)}`),
    verdict.parts.length ? h("div", { class: "parts" }, verdictCards(verdict.parts, each, run)) : null,
  );
}

const verdictCards = (verdicts, each, run) =>
  [...verdicts].sort((a, b) => a.passed - b.passed).map((verdict) => verdictCard(verdict, each, run));

const score = (value) => String(Number(value.toFixed(3)));

/** What a judge, or a comparison of embeddings, came to and took. */
function judgementParts(judgement, each) {
  const usage = judgement.usage;
  return [
    judgement.error ? errorCard(judgement.error, each) : null,
    judgement.reason ? block(judgement.reason, each, "prose") : null,
    factList([
      [judgement.type === "similar" ? "compared by" : "judged by", textOf(judgement.model)],
      ["its verdict", judgement.passed == null ? null : judgement.passed ? "yes" : "no"],
      ["its score", judgement.score == null ? null : score(judgement.score)],
      ["tokens", usage && `${count(usage.input_tokens)} in, ${count(usage.output_tokens)} out`],
      ["cost", usage && (money(judgement.cost) || "not known")],
      ["latency", judgement.latency ? duration(judgement.latency) : null],
    ]),
    judgement.attempts.length > 1 ? attemptTable(judgement.attempts) : null,
  ];
}

/** What was asked of judges without a verdict of this case to show for it: they erred, or the assertion has changed. */
function otherJudgements(each, run) {
  const shown = new Set(run.verdicts.flatMap((verdict) => [verdict, ...verdict.parts]).map((verdict) => verdict.judgement));
  return run.judgements
    .filter((_, number) => !shown.has(number))
    .map((judgement) => h("div", { class: "verdict-card verdict-card-none" }, h("p", { class: "verdict-head" }, h("code", {}, textOf(judgement.type))), judgementParts(judgement, each)));
}

function turn(role, told, ...content) {
  return h("div", { class: `turn turn-${role}` }, h("p", { class: "turn-head" }, h("strong", {}, role), told ? h("span", { class: "dim" }, told) : null), content);
}

const fileFacts = (file) => [file.path, file.type, file.size].filter(Boolean).join(", ");

function thumbnail(image) {
  const told = fileFacts(image);
  const sent = image.sent ? h("span", { class: "sent" }, `sent as ${image.sent}`) : null;
  if (image.thumbnail != null) {
    return h("figure", { class: "thumbnail" }, h("img", { src: data.thumbnails[image.thumbnail], alt: told }), h("figcaption", {}, image.path, sent));
  }
  return h("figure", { class: "thumbnail missing" }, h("span", {}, "no picture"), h("figcaption", {}, `${told}: ${image.missing}`, sent));
}

/** The documents and the video of a turn, by name. */
const attachments = (files) => (files.length ? h("ul", { class: "attachments" }, files.map((file) => h("li", {}, fileFacts(file)))) : null);

/** The turns as they were: where a user's turn follows a user's turn, the model answered in between. */
function conversation(each, run) {
  const turns = [];
  if (each.system != null) turns.push(turn("system", "", block(each.system, each)));
  let answered = 0;
  const answer = () => {
    const found = run.replies[answered];
    answered += 1;
    if (found) turns.push(replyTurn(found, answered, each, run));
  };
  each.messages.forEach((message, position) => {
    if (message.role === "user" && each.messages[position - 1]?.role === "user") answer();
    const told = message.role === "assistant" ? "as the job has it" : "";
    const images = message.images.length ? h("div", { class: "thumbnails" }, message.images.map(thumbnail)) : null;
    const files = attachments(message.files);
    turns.push(turn(message.role, told, images, files, message.text === "" && (images || files) ? null : block(message.text, each)));
  });
  if (each.body != null) turns.push(turn("user", "the raw body", block(each.body, each)));
  while (answered < run.replies.length) {
    if (run.repair != null && answered === run.replies.length - 1) turns.push(turn("user", "asked to repair the reply", block(run.repair, each)));
    answer();
  }
  return turns;
}

function replyTurn(found, number, each, run) {
  const told = [
    run.replies.length > 1 ? `reply ${number} of ${run.replies.length}` : "",
    found.stop_reason,
    duration(found.latency),
    found.usage ? plural(found.usage.output_tokens, "token") : "",
    found.request_id ? `request ${found.request_id}` : "",
  ];
  const text = textOf(found.text) === "" ? h("p", { class: "dim" }, "an empty reply") : block(found.text, each);
  return turn("assistant", told.filter(Boolean).join(" · "), text);
}

function attemptTable(attempts) {
  if (!attempts.length) return null;
  const rows = attempts.map((attempt, number) =>
    h(
      "tr",
      {},
      h("td", { class: "number" }, number + 1),
      h("td", {}, attempt.code ? h("span", { class: "told-failed" }, textOf(attempt.code)) : "replied"),
      h("td", { class: "number" }, duration(attempt.latency_ms)),
      h("td", { class: "number" }, attempt.waited_ms ? duration(attempt.waited_ms) : ""),
      h("td", { class: "wide" }, [textOf(attempt.message), attempt.request_id ? `request ${textOf(attempt.request_id)}` : "", attempt.possibly_billed ? "may be on the bill" : ""].filter(Boolean).join(" · ")),
    ),
  );
  const head = ["#", "Outcome", "Took", "Waited", "Told"].map((name, position) => h("th", { scope: "col", class: [0, 2, 3].includes(position) ? "number" : null }, name));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Attempts" }, h("table", { class: "plain-table" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows)));
}

function variables(pairs, each) {
  if (!pairs.length) return null;
  return h("dl", { class: "vars" }, pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, block(value, each)))));
}

function runParts(each, run) {
  const usage = run.usage;
  const settings = each.settings.map(([name, value]) => [name, textOf(value)]);
  return [
    run.error ? section("Error", errorCard(run.error, each)) : null,
    section("Verdicts", verdictCards(run.verdicts, each, run)),
    section("Judged without a verdict", otherJudgements(each, run)),
    section("Conversation", conversation(each, run)),
    section("Reply as data", run.parsed && variables(run.parsed, each)),
    section("Variables", variables(each.vars, each)),
    section("Attempts", attemptTable(run.attempts)),
    section(
      "Figures",
      factList([
        ["latency", duration(run.latency)],
        ["first token", duration(run.first_token)],
        ["cost", money(run.cost) || "not known"],
        ["tokens in", usage && count(usage.input_tokens)],
        ["tokens out", usage && count(usage.output_tokens)],
        ["cache read", usage && usage.cache_read_tokens ? count(usage.cache_read_tokens) : null],
        ["cache written", usage && usage.cache_write_tokens ? count(usage.cache_write_tokens) : null],
        ...settings,
        ...run.facts,
      ]),
    ),
  ];
}

function drawPane(each, chosen = tellingRun(each)) {
  const runs = isRepeated(each)
    ? h(
        "div",
        { class: "repeats" },
        h("p", {}, `${repetitions(each)}; ${each.min_pass} must.`),
        h("div", { class: "chips", role: "group", "aria-label": "Repetition" }, each.runs.map((run) => chip([icon(run.status), `#${run.number} ${run.status}`], run === chosen, () => {
          drawPane(each, run);
          $("pane").querySelector('.repeats [aria-pressed="true"]').focus();
        }))),
      )
    : null;
  const model = each.matrix.some(([name]) => name === "model") ? "" : each.model;
  const told = [each.job, each.variant, model].filter(Boolean).join(" · ");
  const place = [each.source, each.row].filter(Boolean).join(", ");
  $("pane").replaceChildren(
    h(
      "div",
      { class: "pane-bar" },
      h("span", {}, status(each.status), toleratedMark(each)),
      h(
        "span",
        { class: "pane-buttons" },
        paneButton("Previous case", "↑", () => step(-1)),
        paneButton("Next case", "↓", () => step(1)),
        paneButton("Close", "✕", close),
      ),
    ),
    h(
      "header",
      {},
      h("h2", { id: "pane-title" }, h("a", { href: each.hash }, base(each))),
      h("p", { class: "dim" }, told),
      h("p", { class: "dim" }, h("code", {}, place), each.tags.map((tag) => h("span", { class: "tag" }, tag))),
      runs,
    ),
    ...runParts(each, chosen).filter(Boolean),
  );
}

function paneButton(label, sign, click) {
  return h("button", { type: "button", "aria-label": label, title: label, click }, sign);
}

// --- opening, closing, moving ----------------------------------------------------------------------------------------

/** The address says which case is open, so that it can be sent to others, and Back closes it. */
function open(each, { replace = false } = {}) {
  if (replace || opened) location.replace(each.hash);
  else location.hash = each.hash;
  if (opened === each) $("pane").focus();
}

function close() {
  if (opened) location.hash = "#/"; // no element is called that, so nothing scrolls
}

function caseOfAddress() {
  const found = (called) => cases.find((each) => called(each) === location.hash) ?? cases.find((each) => sameAddress(called(each), location.hash));
  return found((each) => each.hash) ?? found((each) => hashOf(each.job, each.base)); // the first of its variants
}

/** Whether two hashes say the same, since browsers and mail programs encode them differently. */
function sameAddress(one, other) {
  try {
    return decodeURIComponent(one) === decodeURIComponent(other);
  } catch {
    return false; // not encoded as an address is
  }
}

function followAddress() {
  const before = opened;
  opened = caseOfAddress() ?? null;
  document.body.classList.toggle("open", opened !== null);
  $("pane").hidden = opened === null;
  if (opened) {
    const moving = before && $("pane").contains(document.activeElement);
    drawPane(opened);
    $("pane").scrollTop = 0;
    active = shown.indexOf(opened);
    if (!before || moving) $("pane").focus({ preventScroll: true });
  }
  if (state.view === "matrix") list?.redraw(); // which marks the one that is open as it is drawn
  else fitList();
  markActive();
  if (active >= 0 && opened && state.view !== "matrix") list?.reveal(active);
  if (!opened && before) grid()?.focus({ preventScroll: true });
}

function markActive() {
  const found = grid();
  if (!found) return;
  for (const one of found.querySelectorAll("[aria-selected]")) {
    const each = cases[Number(one.id.slice("case-".length))];
    one.classList.toggle("active", each === shown[active]);
    one.setAttribute("aria-selected", String(each === opened));
  }
  const one = found.querySelector(".active");
  if (one) found.setAttribute("aria-activedescendant", one.id);
  else found.removeAttribute("aria-activedescendant");
}

function moveTo(position) {
  if (!shown.length) return;
  active = Math.min(Math.max(position, 0), shown.length - 1);
  if (opened) {
    open(shown[active], { replace: true });
    return;
  }
  grid()?.focus({ preventScroll: true });
  list?.reveal(active);
  list?.refresh();
  markActive();
}

const step = (by) => moveTo(active < 0 ? 0 : active + by);

/** To the row above or below, if there is one. */
function stepRow(by) {
  const position = Math.min(active + by * list.columns, shown.length - 1);
  if (active < 0) moveTo(0);
  else if (position >= 0 && list.rowOf(position) !== list.rowOf(active)) moveTo(position);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || $("help").open) return;
  const target = event.target;
  if (event.key === "Escape") {
    if (target === $("search")) target.blur();
    else close();
    return;
  }
  if (target === $("search") && (event.key === "ArrowDown" || event.key === "Enter")) {
    event.preventDefault();
    moveTo(Math.max(active, 0));
    return;
  }
  if (target.matches?.("input, select, textarea")) return;
  const inGrid = target === grid();
  const keys = {
    "/": () => $("search").select(),
    "?": () => $("help").showModal(),
    t: toggleTheme,
    j: () => step(1),
    k: () => step(-1),
    ...(inGrid && {
      ArrowDown: () => stepRow(1),
      ArrowUp: () => stepRow(-1),
      ...(list?.columns > 1 && { ArrowRight: () => step(1), ArrowLeft: () => step(-1) }),
      Home: () => moveTo(0),
      End: () => moveTo(shown.length - 1),
      PageDown: () => moveTo(active + list.page),
      PageUp: () => moveTo(active - list.page),
      Enter: () => shown[active] && open(shown[active]),
    }),
  };
  if (!Object.hasOwn(keys, event.key)) return;
  event.preventDefault();
  keys[event.key]();
}

// --- dark and light --------------------------------------------------------------------------------------------------

const THEME = "bedrock-run-theme";
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (systemIsDark.matches ? "dark" : "light")) === "dark";

function showTheme() {
  $("theme-button").textContent = isDark() ? "Light" : "Dark";
  $("theme-button").setAttribute("aria-label", isDark() ? "Use the light theme" : "Use the dark theme");
}

function toggleTheme() {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  remember(document.documentElement.dataset.theme);
  showTheme();
}

/** Where a page is shown in a sandbox nothing can be remembered. */
function remember(theme) {
  try {
    localStorage.setItem(THEME, theme);
  } catch {
    // the choice holds as long as the page
  }
}

function rememberedTheme() {
  try {
    return localStorage.getItem(THEME);
  } catch {
    return null;
  }
}

// --- begin -----------------------------------------------------------------------------------------------------------

function begin() {
  const theme = rememberedTheme();
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
  showTheme();
  prepare();
  if (cases.filter(hasPicture).length > cases.length / 2) state.view = "pictures"; // what a reader of captions looks for
  const isFarBelow = innerWidth < 600 || state.view === "pictures"; // what a reader came for, if the charts are open
  if (isFarBelow) document.querySelector(".charts")?.removeAttribute("open");
  fillControls();
  update();
  followAddress();

  let drawing = 0;
  const refresh = () => {
    cancelAnimationFrame(drawing);
    drawing = requestAnimationFrame(() => list?.refresh());
  };
  addEventListener("scroll", refresh, { passive: true, capture: true });
  addEventListener("resize", fitList);
  addEventListener("hashchange", followAddress);
  addEventListener("beforeprint", () => list?.show(0, Math.min(list.length, Math.ceil(MOST_PRINTED / list.columns))));
  addEventListener("afterprint", () => list?.redraw());
  document.addEventListener("keydown", onKey);
  systemIsDark.addEventListener("change", showTheme);
  $("theme-button").addEventListener("click", toggleTheme);
  $("help-button").addEventListener("click", () => $("help").showModal());
  $("help-close").addEventListener("click", () => $("help").close());
  (globalThis.requestIdleCallback ?? setTimeout)(searchIndex);
}

begin();
