"use strict";
const $ = (id) => document.getElementById(id);
// Okabe and Ito's colours, told apart by people who see colours differently; with more ranks they repeat.
const COLOURS = ["#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2", "#999999"];
const number = (n) => Math.round(n).toLocaleString("en");
let model = null;
let running = null;  // AbortController of the request under way

function headers() {
  const key = $("key").value.trim();
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

async function refusal(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `status ${response.status}`;
  }
}

async function findModel() {
  try {
    const response = await fetch("v1/models", { headers: headers() });
    if (!response.ok) throw new Error(await refusal(response));
    const found = (await response.json()).data[0];
    model = found.id;
    $("model").textContent = `${found.id}, up to ${number(found.max_model_len)} tokens`;
  } catch (error) {
    model = null;
    $("model").textContent = error.message;
    setTimeout(findModel, 2000);
  }
}

// Server-sent events of a fetch, as the texts after "data: ".
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    held += value;
    const lines = held.split("\n");
    held = lines.pop();
    for (const line of lines) if (line.startsWith("data: ")) yield line.slice(6);
  }
}

// How a prompt was cut: one entry for each step, [begin, end) in tokens, and whether ranks shared it.
class Cut {
  constructor() {
    this.steps = [];
    this.last = null;
  }
  add(progress) {
    const begin = this.last ? this.last.processed : progress.cached;
    const shared = progress.rank_tokens.reduce((a, b) => a + b, 0) - (this.last ? this.last.rank_tokens.reduce((a, b) => a + b, 0) : 0);
    if (progress.processed > begin) this.steps.push({ begin, end: progress.processed, shared: shared > 0 });
    this.last = progress;
  }
  draw() {
    const { total, cached, cp } = this.last;
    const svg = $("zigzag");
    svg.querySelectorAll("rect, text").forEach((old) => old.remove());
    const rect = (begin, end, fill, name) => {
      const shape = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      for (const [key, value] of Object.entries({ x: 1000 * begin / total, y: 0, width: 1000 * (end - begin) / total, height: 40, stroke: "#00000060", "stroke-width": 0.5 }))
        shape.setAttribute(key, value);
      shape.style.fill = fill;
      const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
      title.textContent = `${name}: tokens ${number(begin)} to ${number(end)}`;
      shape.append(title);
      svg.append(shape);
    };
    if (cached > 0) rect(0, cached, "var(--cached)", "from the prefix tree");
    for (const { begin, end, shared } of this.steps) {
      if (!shared) {
        rect(begin, end, "var(--accent)", "all cores together");
        continue;
      }
      const blocks = 2 * cp;
      for (let i = 0; i < blocks; i++) {
        const rank = i < cp ? i : blocks - 1 - i;
        rect(begin + (end - begin) * i / blocks, begin + (end - begin) * (i + 1) / blocks, COLOURS[rank % COLOURS.length], `rank ${rank}`);
      }
    }
    const parts = this.last.rank_tokens.map((tokens, rank) => [COLOURS[rank % COLOURS.length], `rank ${rank}: ${number(tokens)} tokens`]);
    if (cached > 0) parts.unshift(["var(--cached)", `prefix tree: ${number(cached)}`]);
    $("legend").replaceChildren(...parts.flatMap(([colour, text]) => {
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = colour;
      return [swatch, text];
    }));
    $("zigzag-title").textContent = `How the prompt was cut over ${cp} ranks: ${parts.map((p) => p[1]).join(", ")}`;
    $("cut").hidden = cp < 2;
  }
}

function showProgress(progress, cut, begun) {
  const { total, cached, processed, eta_ms: eta } = progress;
  const percent = Math.floor(100 * processed / total);
  $("cached").style.width = `${100 * cached / total}%`;
  $("done").style.width = `${100 * (processed - cached) / total}%`;
  $("bar").setAttribute("aria-valuenow", percent);
  const seconds = (performance.now() - begun) / 1000;
  const rate = number((processed - cached) / seconds);
  $("numbers").textContent = `${number(processed)} of ${number(total)} tokens` + (cached ? `, ${number(cached)} from the prefix tree` : "") +
    `, ${rate} tokens/s` + (processed < total ? `, ${(eta / 1000).toFixed(1)} s to go` : `, read in ${seconds.toFixed(1)} s`);
  cut.add(progress);
  cut.draw();
}

async function ask() {
  const text = $("document").value;
  const question = $("question").value;
  const body = {
    model, stream: true, return_progress: true, stream_options: { include_usage: true }, max_tokens: Number($("tokens").value) || 64,
    messages: [{ role: "user", content: text ? `${text}\n\nQuestion: ${question}` : question }],
  };
  if ($("temperature").value !== "") body.temperature = Number($("temperature").value);
  $("answer").textContent = $("reasoning").textContent = "";
  $("thoughts").hidden = $("progress").hidden = true;
  say("sent");
  const begun = performance.now();
  const cut = new Cut();
  const response = await fetch("v1/chat/completions", { method: "POST", headers: headers(), body: JSON.stringify(body), signal: running.signal });
  if (!response.ok) throw new Error(await refusal(response));
  let finish = null, first = null;
  for await (const data of events(response)) {
    if (data === "[DONE]") continue;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message);
    if (chunk.prompt_progress) {
      $("progress").hidden = false;
      showProgress(chunk.prompt_progress, cut, begun);
      say("reading the prompt");
    }
    for (const choice of chunk.choices) {
      const { content, reasoning_content: reasoning } = choice.delta;
      if (reasoning) {
        $("thoughts").hidden = false;
        $("reasoning").append(reasoning);
      }
      if (content) $("answer").append(content);
      if (content || reasoning) first ??= performance.now();
      finish = choice.finish_reason ?? finish;
    }
    if (chunk.usage) {
      const { prompt_tokens: prompt, completion_tokens: tokens, prompt_tokens_details: details } = chunk.usage;
      say(`${number(prompt)} prompt tokens, ${number(details.cached_tokens)} of them cached; ${number(tokens)} new ones; first text after ` +
        `${(((first ?? performance.now()) - begun) / 1000).toFixed(2)} s` + (finish === "length" ? "; cut at the most new tokens" : ""));
    }
  }
}

function say(text, bad = false) {
  $("outcome").textContent = text;
  $("outcome").classList.toggle("bad", bad);
}

async function submit(event) {
  event.preventDefault();
  if (running) return;
  running = new AbortController();
  $("ask").disabled = true;
  $("stop").disabled = false;
  try {
    if (!model) throw new Error("there is no model yet");
    await ask();
  } catch (error) {
    say(error.name === "AbortError" ? "stopped" : error.message, error.name !== "AbortError");
  } finally {
    running = null;
    $("ask").disabled = false;
    $("stop").disabled = true;
  }
}

async function take(file) {
  if (!file) return;
  $("document").value = await file.text();
  showSize();
}

function showSize() {
  const bytes = new Blob([$("document").value]).size;
  $("size").textContent = bytes ? `${number(bytes / 1024)} KiB` : "";
}

function setTheme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  $("theme").setAttribute("aria-pressed", dark);
}

$("form").addEventListener("submit", submit);
$("stop").addEventListener("click", () => running?.abort());
$("file").addEventListener("change", (event) => take(event.target.files[0]));
$("document").addEventListener("input", showSize);
$("key").addEventListener("change", findModel);
$("theme").addEventListener("click", () => setTheme($("theme").getAttribute("aria-pressed") !== "true"));
for (const name of ["dragover", "dragleave", "drop"]) {
  $("document").addEventListener(name, (event) => {
    event.preventDefault();
    $("document").classList.toggle("over", name === "dragover");
    if (name === "drop") take(event.dataTransfer.files[0]);
  });
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
});
$("theme").setAttribute("aria-pressed", matchMedia("(prefers-color-scheme: dark)").matches);
findModel();
