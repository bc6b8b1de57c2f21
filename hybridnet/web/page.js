const input = document.getElementById("photo");
const drop = document.getElementById("drop");
const status = document.getElementById("status");
const results = document.getElementById("results");
const maxBytes = Number(document.body.dataset.maxBytes);
const MOST_RESULTS = 20;
const waiting = [];
let isBusy = false;

/** An element with attributes and children; text is never read as HTML. */
function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const percent = (share) => `${(100 * share).toFixed(1)}%`;

/** Ask the server about every file, one after the other; the newest answer is on top. */
async function add(files) {
  waiting.push(...files);
  if (isBusy) return;
  isBusy = true;
  while (waiting.length) {
    const file = waiting.shift();
    const left = waiting.length ? ` (${waiting.length} more after it)` : "";
    status.textContent = `Looking at ${file.name} …${left}`;
    let card;
    let told = "";
    try {
      const answer = await ask(file);
      card = answerCard(file, answer);
      told = `${file.name}: ${answer.label}, ${percent(answer.probability)}`;
    } catch (error) {
      card = problemCard(`${file.name} cannot be used: ${error.message}`);
    }
    results.prepend(card);
    while (results.children.length > MOST_RESULTS) results.lastChild.remove();
    status.textContent = told;
  }
  isBusy = false;
}

async function ask(file) {
  if (file.size > maxBytes) throw new Error(`it is larger than ${maxBytes / 1e6} MB.`);
  let content;
  try {
    content = await file.arrayBuffer();
  } catch {
    throw new Error("the browser cannot read it; is it a folder?");
  }
  let response;
  try {
    const headers = { "Content-Type": "application/octet-stream" };
    response = await fetch("predict", { method: "POST", headers, body: content });
  } catch {
    throw new Error("the server does not answer; is it still running?");
  }
  let answer;
  try {
    answer = await response.json();
  } catch {
    throw new Error(`the server has answered with ${response.status} ${response.statusText}.`);
  }
  if (!response.ok) throw new Error(`${answer.error}.`);
  return answer;
}

function problemCard(text) {
  return element("article", { class: "problem", role: "alert" }, element("p", {}, text));
}

function answerCard(file, answer) {
  const [picture, ...maps] = answer.panels;
  const photo = element(
    "figure",
    {},
    element("img", { src: picture.image, alt: `The picture ${file.name}` }),
    element("figcaption", { class: "soft" }, picture.text),
  );
  const bars = element("div", {}, barTable(answer.classes));
  if (answer.num_others) {
    bars.append(element("p", { class: "soft" }, `${answer.num_others} other classes: ${percent(answer.others)} together`));
  }
  const card = element(
    "article",
    { class: "result" },
    element("h2", {}, file.name),
    element("p", { class: "answer" }, element("strong", { class: "label" }, answer.label), " ",
      element("span", { class: "probability" }, percent(answer.probability))),
    element("div", { class: "top" }, photo, bars),
  );
  if (maps.length) {
    card.append(
      element("h3", {}, "What the model looks at"),
      element("p", { class: "soft" }, answer.caveat),
      element("div", { class: "maps" }, ...maps.map(mapFigure)),
    );
  }
  return card;
}

function barTable(classes) {
  const rows = classes.map(([label, probability]) => {
    const fill = element("div", { class: "fill" });
    fill.style.width = percent(probability);
    const bar = element("td", { "aria-hidden": "true" }, element("div", { class: "track" }, fill));
    return element("tr", {}, element("th", { scope: "row" }, label), bar, element("td", {}, percent(probability)));
  });
  return element("table", {}, element("caption", {}, "Probabilities"), element("tbody", {}, ...rows));
}

function mapFigure(panel) {
  const caption = element("figcaption", {}, panel.title, element("span", { class: "soft" }, panel.text));
  const scale = element(
    "div",
    { class: "scale" },
    element("img", { src: panel.scale.image, alt: "Colours, from left to right:" }),
    element("span", {}, ...panel.scale.words.map((word) => element("span", {}, word))),
  );
  return element("figure", {}, element("img", { src: panel.image, alt: `Map: ${panel.title}` }), scale, caption);
}

input.addEventListener("change", () => {
  const files = [...input.files];
  input.value = ""; // the same file can be chosen again
  add(files);
});
if (input.files.length) input.dispatchEvent(new Event("change")); // chosen before this script was there

// Anywhere on the page: a photo that misses the field would replace the page.
window.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
window.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
window.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const files = [...event.dataTransfer.files];
  if (files.length) add(files);
  else results.prepend(problemCard("That is no file. Save the picture first, then drop its file here."));
});
window.addEventListener("paste", (event) => add([...event.clipboardData.files]));
