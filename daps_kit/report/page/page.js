"use strict";
/* What the page does. Its data come as scripts that call `daps.index`, `daps.image` and so on: a page that is opened
   from a disk may load scripts, and nothing else. */
const daps = (() => {
  const $ = (id) => document.getElementById(id);
  const DASH = "–";
  let page, runs, colours;
  let items = []; // {name, at: index in each run or null}
  let shown = []; // items in the order of the list
  let current = null; // the item that is shown
  let pictures = []; // of it: {key, label, about, kind, src, top, run, sample, alt, badge}
  const view = { k: 1, x: 0, y: 0, px: null, py: null };

  // --- small helpers

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (key === "text") element.textContent = value;
      else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else element.setAttribute(key, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  };
  const escape = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const known = (value) => typeof value === "number" && Number.isFinite(value);
  const fixed = (value, digits) => (known(value) ? value.toFixed(digits).replace("-", "−") : DASH);
  const plain = (value) => (known(value) ? String(Number(value.toPrecision(3))).replace("-", "−") : DASH);
  const say = (text) => { $("said").textContent = text; };
  const digits = (key) => (/^(psnr|fid)/.test(key) ? 2 : 3);

  // --- data that arrive

  const which = () => runs[Number(document.currentScript.dataset.run)];
  const receive = {
    index(content) { which().index = { ...content, images: [] }; },
    numbers(content) { content.images.forEach((entry, i) => { which().index.images[content.from + i] = entry; }); },
    thumbs(content) { content.pictures.forEach((src, i) => which().thumbs.set(content.from + i, src)); },
    image(content) { which().images.set(content.index, content); },
    levels(content) { which().levels.set(content.index, content); },
    environment(content) { which().environment = content; },
  };

  const loading = new Map();
  const load = (run, file) => {
    const src = run.base + file;
    if (!loading.has(src)) {
      loading.set(src, new Promise((resolve, reject) => {
        const script = make("script", { src, "data-run": run.number });
        script.onload = () => { script.remove(); resolve(); };
        script.onerror = () => { script.remove(); loading.delete(src); reject(new Error(`cannot read ${src}`)); };
        document.head.append(script);
      }));
    }
    return loading.get(src);
  };
  const KEPT = 12;
  const fetched = async (run, kind, index, file) => {
    const found = run[kind];
    if (!found.has(index) && !run.inline) {
      await load(run, file);
      loading.delete(run.base + file);
      if (kind !== "thumbs") {
        for (const other of [...found.keys()].slice(0, Math.max(0, found.size - KEPT))) if (other !== index) found.delete(other);
      }
    }
    return found.get(index) ?? null;
  };
  const file = (run, index, end = "") => `${String(Math.floor(index / run.together)).padStart(4, "0")}${end}.js`;

  // --- the list of images

  const record = (item, run) => (item.at[run.number] === null ? null : run.index.images[item.at[run.number]]);
  const first = (item) => runs.find((run) => item.at[run.number] !== null);
  const best = (entry) => (entry ? entry.posterior_mean ?? entry.sample_mean : null);
  const flagged = (item) => runs.reduce((sum, run) => sum + flagsOf(item, run).length, 0);
  const flagsOf = (item, run) => {
    const entry = record(item, run);
    if (!entry) return [];
    const of = (list, kind) => list.filter((one) => one.image === item.name).map((one) => ({ kind, ...one }));
    const noise = entry.noise && entry.noise.cause ? [{ kind: "measurement", message: entry.noise.message }] : [];
    return [...of(run.index.lost, "lost"), ...of(run.index.doubted, "doubted"), ...noise];
  };

  const orders = () => {
    const value = (key) => (item) => best(record(item, first(item)))?.[key] ?? null;
    const all = [
      ["recipe", "as in the recipe", null, 1],
      ["name", "by name", (item) => item.name, 1],
      ["worst", "lowest PSNR", value("psnr"), 1],
      ["best", "highest PSNR", value("psnr"), -1],
      ["residual", "largest residual", value("residual"), -1],
      ["flags", "doubts first", flagged, -1],
    ];
    return all.filter(([, , of]) => !of || items.some((item) => of(item) !== null && of(item) !== 0));
  };
  const compareBy = (of, sign) => (a, b) => {
    const [u, v] = [of(a), of(b)];
    if (u === null || v === null) return (u === null) - (v === null);
    return sign * (typeof u === "string" ? u.localeCompare(v, undefined, { numeric: true }) : u - v);
  };

  const LIST = 24;
  let listPage = 0;
  const arrange = (keepPage = false) => {
    const text = $("find").value.trim().toLowerCase();
    const [, , of, sign] = orders().find(([key]) => key === $("order").value);
    shown = items.filter((item) => item.name.toLowerCase().includes(text));
    if (of) shown.sort(compareBy(of, sign));
    if (!keepPage) listPage = 0;
    drawList();
  };
  const drawList = () => {
    listPage = clamp(listPage, 0, Math.max(0, Math.ceil(shown.length / LIST) - 1));
    const part = shown.slice(listPage * LIST, (listPage + 1) * LIST);
    $("thumbs").replaceChildren(...part.map((item) => {
      const run = first(item), entry = record(item, run), score = best(entry), index = item.at[run.number];
      const about = !entry.samples.length ? "all samples lost"
        : known(score.psnr) ? `${fixed(score.psnr, 2)} dB` : `residual ${fixed(score.residual, 2)}`;
      const picture = make("img", { alt: "", width: 44, height: 44, hidden: true });
      const hole = make("span", { class: "empty" });
      fetched(run, "thumbs", index, `thumbs-${Math.floor(index / page.part)}.js`).then((src) => {
        if (src) { picture.src = src; picture.hidden = false; hole.remove(); }
      }, () => {});
      return make("li", {}, make("button", {
        type: "button", "aria-current": item === current ? "true" : null, onclick: () => show(item),
      }, picture, hole, make("b", { text: item.name, title: item.name }), make("small", { text: about + (flagged(item) ? " ⚠" : "") })));
    }));
    if (!part.length) $("thumbs").append(make("li", { text: "no image of this name" }));
    drawPager($("pager"), shown.length, LIST, listPage, "images", (to) => { listPage = to; drawList(); });
  };
  const drawPager = (place, count, size, at, what, go) => {
    if (count <= size) { place.replaceChildren(); return; }
    const last = Math.ceil(count / size) - 1;
    place.replaceChildren(
      make("button", { type: "button", text: "‹", "aria-label": `Earlier ${what}`, disabled: at === 0, onclick: () => go(at - 1) }),
      make("span", { text: `${at * size + 1}–${Math.min(count, (at + 1) * size)} of ${count}` }),
      make("button", { type: "button", text: "›", "aria-label": `Later ${what}`, disabled: at === last, onclick: () => go(at + 1) }),
    );
  };

  // --- the pictures of an image

  const several = () => runs.length > 1;
  const collect = (item, found) => {
    const all = [];
    const one = found.find(Boolean);
    const shared = (key, label, alt) => {
      const content = found.find((content) => content && content[key]);
      if (content) all.push({ key, label, alt: `${alt} ${item.name}`, src: content[key], group: "image", about: "" });
    };
    shared("truth", "Truth", "True image");
    shared("measurement", "Measurement", "Measurement of");
    found.forEach((content, number) => {
      if (!content) return;
      const run = runs[number], entry = record(item, run), of = several() ? ` (${run.name})` : "";
      const score = (values) => (!values ? "" : known(values.psnr) ? `${fixed(values.psnr, 2)} dB` : `residual ${fixed(values.residual, 2)}`);
      const push = (key, label, more) => all.push({ key: `${key}@${number}`, label, run: number, ...more });
      if (content.mean) {
        push("mean", "Mean", { src: content.mean, about: score(entry.posterior_mean), group: "image", alt: `Mean of ${entry.samples.length} samples of ${item.name}${of}` });
      }
      const maps = { std: ["Standard deviation", "of the samples"], width: ["Interval width", "95 % less 5 % quantile"], error: ["Error", content.mean ? "of the mean" : "of the sample"] };
      for (const [key, [label, about]] of Object.entries(maps)) {
        const map = content.maps[key];
        if (map) push(key, label, { src: map.picture, top: map.top, about, group: "map", alt: `${label} of ${item.name}${of}: from 0 to ${map.top}, brighter is more` });
      }
      content.samples.forEach((src, sample) => {
        const flags = flagsOf(item, run).filter((one) => one.run === sample);
        const values = entry.samples.find((one) => one.run === sample);
        push(`sample-${sample}`, content.samples.length > 1 ? `Sample ${sample + 1}` : "Sample", {
          src, sample, about: score(values), group: "sample", flags, chosen: content.samples.length > 1 && entry.reported?.run === sample,
          alt: `Sample ${sample + 1} of ${item.name}${of}`,
        });
      });
    });
    return { all, size: one.size, drawn: one.shown, channels: one.channels };
  };

  const picture = (of) => {
    if (!of.src) return make("span", { class: "lost", text: "lost" });
    if (of.group !== "map") return make("img", { src: of.src, alt: of.alt, draggable: "false" });
    const canvas = make("canvas", { role: "img", "aria-label": of.alt });
    paint(canvas, of.src);
    return canvas;
  };
  const paint = async (canvas, src) => {
    const image = await decoded(src);
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height), bytes = pixels.data;
    for (let i = 0; i < bytes.length; i += 4) {
      const at = 3 * bytes[i];
      bytes[i] = colours[at]; bytes[i + 1] = colours[at + 1]; bytes[i + 2] = colours[at + 2];
    }
    context.putImageData(pixels, 0, 0);
  };
  const decoded = async (src) => {
    const image = new Image();
    image.src = src;
    await image.decode();
    return image;
  };

  let asked = 0;
  const show = async (item, { focus = false } = {}) => {
    const turn = ++asked;
    let found;
    try {
      found = await Promise.all(runs.map((run) => (item.at[run.number] === null ? null : fetched(run, "images", item.at[run.number], file(run, item.at[run.number])))));
    } catch {
      say("The pictures are not beside the page.");
      $("viewer").hidden = false;
      $("image-name").textContent = item.name;
      $("flags").textContent = "The pictures of this image are not beside the page: the folder report was not brought along.";
      return;
    }
    if (turn !== asked) return;
    const before = current;
    current = item;
    const { all, size, drawn, channels } = collect(item, found);
    pictures = all;
    pictures.size = size; pictures.drawn = drawn; pictures.channels = channels; pictures.found = found;
    $("viewer").hidden = false;
    $("image-name").textContent = item.name;
    const reduced = size[0] !== drawn[0] || size[1] !== drawn[1];
    const flags = runs.flatMap((run) => flagsOf(item, run).map((flag) => ({ of: run, flag })));
    $("flags").replaceChildren(...flags.map(({ of, flag }) => make("span", {
      text: `⚠ ${several() ? `${of.name}, ` : ""}${flag.kind === "measurement" ? "measurement" : `sample ${flag.run + 1} ${flag.kind}`}: ${flag.message}. `,
    })));
    if (reduced) $("flags").append(make("span", { class: "reduced", text: `${size[1]} × ${size[0]} pixels, shown as ${drawn[1]} × ${drawn[0]}.` }));
    $("viewer").style.setProperty("--aspect", `${drawn[1]} / ${drawn[0]}`);
    $("viewer").style.setProperty("--ratio", drawn[1] / drawn[0]);
    fillChoices(before !== null);
    drawTiles();
    if (!before || !sameSize(drawn)) setView(1, 0, 0);
    for (const button of $("thumbs").querySelectorAll("button")) {
      const own = button.querySelector("b")?.textContent === item.name;
      if (own) button.setAttribute("aria-current", "true"); else button.removeAttribute("aria-current");
    }
    markRow();
    $("row").max = drawn[0] - 1;
    $("column").max = drawn[1] - 1;
    if (view.px === null || view.px >= drawn[1] || view.py >= drawn[0]) await brightest(drawn);
    if (turn !== asked) return;
    await pick(view.px, view.py);
    drawWay(item);
    if (focus) { $("image-name").focus({ preventScroll: true }); $("images").scrollIntoView(); }
  };
  let sizeBefore = null;
  const sameSize = (drawn) => {
    const same = sizeBefore && sizeBefore[0] === drawn[0] && sizeBefore[1] === drawn[1];
    sizeBefore = drawn;
    return same;
  };
  const brightest = async (drawn) => {
    const map = pictures.find((one) => one.key.startsWith("std@"));
    [view.px, view.py] = [Math.floor(drawn[1] / 2), Math.floor(drawn[0] / 2)];
    if (!map) return;
    const bytes = await pixelsOf(map.src);
    let top = -1;
    for (let i = 0; i < bytes.data.length; i += 4) {
      if (bytes.data[i] > top) { top = bytes.data[i]; view.px = (i / 4) % bytes.width; view.py = Math.floor(i / 4 / bytes.width); }
    }
  };
  const pixelsOf = async (src) => {
    const image = await decoded(src);
    const canvas = make("canvas", { width: image.naturalWidth, height: image.naturalHeight });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  };

  // --- before and after

  const drawable = () => pictures.filter((one) => one.src);
  const name = (one) => (several() && one.run !== undefined ? `${one.label}, ${runs[one.run].name}` : one.label);
  const fillChoices = (keep) => {
    const all = drawable(), has = (key) => all.some((one) => one.key === key);
    const pickOf = (...keys) => keys.find(has) ?? all[0]?.key;
    const chosen = all.find((one) => one.chosen)?.key;
    const answers = runs.map((run) => [`mean@${run.number}`, `sample-0@${run.number}`].find(has)).filter(Boolean);
    const means = answers.filter((key) => key.startsWith("mean"));
    const wished = answers.length > 1
      ? { left: answers[0], right: answers[1] }
      : { left: pickOf("measurement", "truth"), right: pickOf(...means, chosen, ...answers) };
    for (const side of ["left", "right"]) {
      const was = $(side).value;
      $(side).replaceChildren(...all.map((one) => make("option", { value: one.key, text: name(one) })));
      $(side).value = keep && has(was) ? was : wished[side];
    }
    drawCompare();
  };
  const drawCompare = () => {
    for (const [side, place] of [["left", "over"], ["right", "under"]]) {
      const one = pictures.find((each) => each.key === $(side).value);
      $(place).replaceChildren(...(one ? [picture(one)] : []));
      $(`${side}-name`).textContent = one ? name(one) : "";
    }
  };

  // --- small pictures

  const TILES = 12;
  let allSamples = false;
  const drawTiles = () => {
    const groups = several()
      ? [["", (one) => one.run === undefined], ...runs.map((run) => [run.name, (one) => one.run === run.number, run.number])]
      : [["", (one) => one.group !== "sample"], ["Samples", (one) => one.group === "sample"]];
    $("tiles").replaceChildren(...groups.flatMap(([title, wanted, number]) => {
      let all = pictures.filter(wanted);
      if (!all.length) return [];
      const samples = all.filter((one) => one.group === "sample").length;
      const hidden = !allSamples && samples > TILES ? samples - TILES : 0;
      if (hidden) all = all.filter((one) => one.group !== "sample" || one.sample < TILES);
      return [make("div", { class: "group" },
        title ? make("h4", { class: several() ? `tag r${number % 6}` : null, text: title }) : null,
        make("div", { class: "row" }, ...all.map(tile)),
        hidden ? make("div", { class: "pager" }, make("button", { type: "button", text: `Show ${hidden} more samples`, onclick: () => { allSamples = true; drawTiles(); } })) : null)];
    }));
  };
  const tile = (one) => {
    const badge = one.flags?.length ? one.flags[0].kind : one.chosen ? "shown" : "";
    const caption = make("figcaption", {}, one.label);
    if (badge) caption.append(make("span", { class: badge === "shown" ? "badge" : "badge warn", text: badge, title: one.flags?.map((flag) => flag.message).join("\n") || "the sample that is reported, chosen without the truth" }));
    caption.append(make("small", { text: one.about }));
    if (one.flags?.length) caption.append(make("small", { text: one.flags[0].message }));
    const scale = one.top === undefined ? null : make("div", { class: "scale" }, "0", make("i", { style: `background: linear-gradient(90deg, ${gradient()})` }), plain(one.top));
    return make("figure", { class: ["tile", one.chosen ? "shown" : "", one.flags?.length ? "doubted" : ""].join(" ") },
      make("div", { class: "lens" }, make("div", { class: "layer" }, picture(one)), make("span", { class: "cross", "aria-hidden": "true" })),
      scale, caption);
  };
  const gradient = () => Array.from({ length: 17 }, (_, i) => {
    const at = 3 * Math.min(255, 16 * i);
    return `rgb(${colours[at]} ${colours[at + 1]} ${colours[at + 2]})`;
  }).join(", ");

  // --- zoom and pan, of all pictures together

  const setView = (k, x, y) => {
    view.k = clamp(k, 1, 64);
    view.x = clamp(x, 0, 1 - 1 / view.k);
    view.y = clamp(y, 0, 1 - 1 / view.k);
    const style = $("viewer").style;
    style.setProperty("--k", view.k);
    style.setProperty("--x", view.x);
    style.setProperty("--y", view.y);
    $("viewer").classList.toggle("zoomed", view.k > 1);
    $("viewer").classList.toggle("sharp", $("pixels").getAttribute("aria-pressed") === "true" || view.k >= 4);
    $("zoom").textContent = `${Number(view.k.toFixed(1))}×`;
    $("zoom-out").disabled = $("fit").disabled = view.k === 1;
  };
  const zoomAt = (factor, u, v) => {
    const k = clamp(view.k * factor, 1, 64);
    setView(k, view.x + u / view.k - u / k, view.y + v / view.k - v / k);
  };
  const zoomMiddle = (factor) => {
    const inside = (at) => at > 0 && at < 1;
    const [u, v] = [((view.px + 0.5) / pictures.drawn[1] - view.x) * view.k, ((view.py + 0.5) / pictures.drawn[0] - view.y) * view.k];
    zoomAt(factor, inside(u) && inside(v) ? u : 0.5, inside(u) && inside(v) ? v : 0.5);
  };

  const touch = { pointers: new Map(), moved: false, split: false, lens: null, apart: 0 };
  const place = (event, lens) => {
    const box = lens.getBoundingClientRect();
    return { u: (event.clientX - box.left) / box.width, v: (event.clientY - box.top) / box.height, box };
  };
  const setSplit = (percent) => {
    $("split").value = percent;
    $("lens").style.setProperty("--split", percent);
  };
  const listenToPictures = () => {
    const viewer = $("viewer");
    viewer.addEventListener("pointerdown", (event) => {
      const lens = event.target.closest(".lens");
      if (!lens || event.button) return;
      touch.pointers.set(event.pointerId, event);
      if (touch.pointers.size === 1) {
        touch.lens = lens;
        touch.moved = false;
        const { u, box } = place(event, lens);
        touch.split = lens === $("lens") && Math.abs(u - $("split").value / 100) * box.width < 14;
      }
      lens.setPointerCapture(event.pointerId);
    });
    viewer.addEventListener("pointermove", (event) => {
      const before = touch.pointers.get(event.pointerId);
      if (!before) return;
      const start = Math.hypot(event.clientX - before.clientX, event.clientY - before.clientY);
      if (!touch.moved && start < 4) return;
      touch.moved = true;
      const { u, v, box } = place(event, touch.lens);
      if (touch.pointers.size === 2) {
        touch.pointers.set(event.pointerId, event);
        const [a, b] = [...touch.pointers.values()];
        const apart = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
        if (touch.apart) zoomAt(apart / touch.apart, ((a.clientX + b.clientX) / 2 - box.left) / box.width, ((a.clientY + b.clientY) / 2 - box.top) / box.height);
        touch.apart = apart;
        return;
      }
      if (touch.split) setSplit(clamp(100 * u, 0, 100));
      else setView(view.k, view.x - (event.clientX - before.clientX) / box.width / view.k, view.y - (event.clientY - before.clientY) / box.height / view.k);
      touch.pointers.set(event.pointerId, event);
    });
    const end = (event) => {
      if (!touch.pointers.delete(event.pointerId)) return;
      touch.apart = 0;
      if (event.type === "pointerup" && !touch.moved && !touch.split && touch.pointers.size === 0) {
        const { u, v } = place(event, touch.lens);
        pick(Math.floor((view.x + u / view.k) * pictures.drawn[1]), Math.floor((view.y + v / view.k) * pictures.drawn[0]));
      }
    };
    viewer.addEventListener("pointerup", end);
    viewer.addEventListener("pointercancel", end);
    viewer.addEventListener("dblclick", (event) => {
      const lens = event.target.closest(".lens");
      if (lens) { const { u, v } = place(event, lens); zoomAt(2, u, v); }
    });
    viewer.addEventListener("wheel", (event) => {
      const lens = event.target.closest(".lens");
      if (!lens || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      const { u, v } = place(event, lens);
      zoomAt(Math.exp(-event.deltaY / 200), u, v);
    }, { passive: false });
    $("lens").addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const step = steps[event.key];
      if (step && event.shiftKey) setView(view.k, view.x + (0.1 * step[0]) / view.k, view.y + (0.1 * step[1]) / view.k);
      else if (step) pick(view.px + step[0], view.py + step[1]);
      else if (event.key === "+" || event.key === "=") zoomMiddle(1.5);
      else if (event.key === "-") zoomMiddle(1 / 1.5);
      else if (event.key === "0") setView(1, 0, 0);
      else return;
      event.preventDefault();
    });
    $("zoom-in").addEventListener("click", () => zoomMiddle(1.5));
    $("zoom-out").addEventListener("click", () => zoomMiddle(1 / 1.5));
    $("fit").addEventListener("click", () => setView(1, 0, 0));
    $("pixels").addEventListener("click", () => {
      const on = $("pixels").getAttribute("aria-pressed") !== "true";
      $("pixels").setAttribute("aria-pressed", on);
      setView(view.k, view.x, view.y);
    });
    $("split").addEventListener("input", () => setSplit($("split").value));
    $("left").addEventListener("change", drawCompare);
    $("right").addEventListener("change", drawCompare);
    const step = (by) => {
      const at = shown.indexOf(current) + by;
      if (shown[at]) {
        if (Math.floor(at / LIST) !== listPage) { listPage = Math.floor(at / LIST); drawList(); }
        show(shown[at]);
      }
    };
    $("before").addEventListener("click", () => step(-1));
    $("after").addEventListener("click", () => step(1));
    for (const id of ["row", "column"]) {
      $(id).addEventListener("change", () => pick(Number($("column").value), Number($("row").value)));
    }
  };

  // --- the samples of a pixel

  let picked = 0;
  const pick = async (px, py) => {
    const turn = ++picked;
    view.px = clamp(Math.round(px), 0, pictures.drawn[1] - 1);
    view.py = clamp(Math.round(py), 0, pictures.drawn[0] - 1);
    const style = $("viewer").style;
    style.setProperty("--px", (view.px + 0.5) / pictures.drawn[1]);
    style.setProperty("--py", (view.py + 0.5) / pictures.drawn[0]);
    $("row").value = view.py;
    $("column").value = view.px;
    const samples = pictures.filter((one) => one.group === "sample" && one.src);
    const truth = pictures.find((one) => one.key === "truth");
    const values = await valuesAt([...samples, ...(truth ? [truth] : [])].map((one) => one.src), view.px, view.py);
    if (turn !== picked) return;
    const lanes = runs.map((run) => ({ run, values: values.filter((_, i) => samples[i]?.run === run.number) })).filter((lane) => lane.values.length);
    drawPixel(lanes, truth ? values[values.length - 1] : null);
  };
  const decodedPictures = new Map();
  const valuesAt = async (sources, px, py) => {
    for (const src of decodedPictures.keys()) if (!sources.includes(src)) decodedPictures.delete(src);
    const images = await Promise.all(sources.map(async (src) => {
      if (!decodedPictures.has(src)) decodedPictures.set(src, await decoded(src));
      return decodedPictures.get(src);
    }));
    const canvas = make("canvas", { width: sources.length, height: 1 });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingEnabled = false;
    images.forEach((image, i) => context.drawImage(image, px, py, 1, 1, i, 0, 1, 1));
    const bytes = context.getImageData(0, 0, sources.length || 1, 1).data;
    return sources.map((_, i) => [0, 1, 2].map((c) => bytes[4 * i + c] / 127.5 - 1));
  };

  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const deviation = (values) => {
    const middle = mean(values);
    return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1));
  };
  const quantile = (sorted, level) => {
    const at = level * (sorted.length - 1), low = Math.floor(at), high = Math.ceil(at);
    return sorted[low] + (at - low) * (sorted[high] - sorted[low]);
  };
  const statistics = (values, widen) => {
    const sorted = [...values].sort((a, b) => a - b), middle = mean(values);
    const wide = (value) => middle + widen * (value - middle);
    return {
      mean: middle, std: values.length > 1 ? deviation(values) : null,
      q05: wide(quantile(sorted, 0.05)), q50: quantile(sorted, 0.5), q95: wide(quantile(sorted, 0.95)),
    };
  };
  const ticks = (low, high, count = 4) => {
    const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((m) => m * power).find((each) => each >= raw);
    const found = [];
    for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + 1e-9 * step; at += step) found.push(Number(at.toPrecision(10)));
    return found;
  };

  const drawPixel = (lanes, truth) => {
    const names = pictures.channels === 1 ? ["grey"] : ["red", "green", "blue"];
    const all = names.map((_, c) => lanes.flatMap((lane) => lane.values.map((value) => value[c])).concat(truth ? [truth[c]] : []));
    let [low, high] = [Math.min(...all.flat()), Math.max(...all.flat())];
    const room = Math.max(0.12 * (high - low), 0.04);
    [low, high] = [Math.max(-1.04, low - room), Math.min(1.04, high + room)];
    const rows = [];
    const drawn = names.map((channel, c) => {
      const color = names.length === 1 ? "var(--ink)" : `var(--${channel})`;
      const about = [];
      const charts = lanes.map((lane) => {
        const values = lane.values.map((value) => value[c]), found = statistics(values, lane.run.widen);
        rows.push({ run: lane.run, channel, found, truth: truth?.[c] });
        about.push(`${several() ? `${lane.run.name}: ` : ""}median ${fixed(found.q50, 2)}, 5 to 95 %: ${fixed(found.q05, 2)} to ${fixed(found.q95, 2)}`);
        return { values, found, color: several() ? `var(--r${lane.run.number % 6})` : color };
      });
      return histogram(charts, truth?.[c], low, high, c === names.length - 1, `${channel}: ${about.join("; ")}${truth ? `; truth ${fixed(truth[c], 2)}` : ""}`);
    });
    const some = lanes.some((lane) => lane.values.length > 1);
    $("histogram").innerHTML = legend(truth !== null, some) + drawn.map((svg) => `<div class="channel">${svg}</div>`).join("");
    const head = [several() ? "run" : "", "", "mean", "sd", "5 %", "median", "95 %", truth ? "truth" : ""].filter((_, i) => (i ? i !== 7 || truth : several()));
    const cells = rows.map(({ run, channel, found, truth: value }) => [
      ...(several() ? [`<span class="tag r${run.number % 6}">${escape(run.name)}</span>`] : []), channel,
      ...[found.mean, found.std, found.q05, found.q50, found.q95].map((number) => fixed(number, 3)), ...(truth ? [fixed(value, 3)] : []),
    ]);
    const wide = lanes.some((lane) => lane.run.widen !== 1) ? "; intervals are widened" : "";
    $("pixel-table").innerHTML = `<table><caption>Images lie in [−1, 1]; read from 8 bits${wide}</caption><thead><tr>${head.map((h) => (h ? `<th scope="col">${h}</th>` : "<td></td>")).join("")}</tr></thead><tbody>${cells.map((row) => `<tr>${row.map((cell, i) => (i ? `<td>${cell}</td>` : `<th scope="row">${cell}</th>`)).join("")}</tr>`).join("")}</tbody></table>`;
  };
  const legend = (truth, interval) => `<p class="legend">${[
    `<span><svg viewBox="0 0 16 10" aria-hidden="true"><rect x="3" y="2" width="10" height="8" fill="currentColor" opacity=".35"/></svg>samples</span>`,
    interval ? `<span><svg viewBox="0 0 16 10" aria-hidden="true"><path d="M1 5h14" stroke="currentColor" stroke-width="2"/><circle cx="8" cy="5" r="3" fill="currentColor"/></svg>5 to 95 %, median</span>` : "",
    truth ? `<span><svg viewBox="0 0 16 10" aria-hidden="true"><path d="M8 0v10" stroke="currentColor" stroke-width="2" stroke-dasharray="3 2"/></svg>truth</span>` : "",
  ].join("")}</p>`;
  const histogram = (charts, truth, low, high, axis, label) => {
    const width = 420, tall = several() ? 34 : 52, lane = tall + 16, height = charts.length * lane + (axis ? 18 : 2);
    const at = (value) => 6 + ((clamp(value, low, high) - low) / (high - low)) * (width - 12);
    const bins = clamp(Math.round(1.6 * Math.sqrt(charts[0].values.length) + 6), 8, 40), wide = (high - low) / bins;
    const body = charts.map(({ values, found, color }, i) => {
      const counts = new Array(bins).fill(0);
      for (const value of values) counts[clamp(Math.floor((value - low) / wide), 0, bins - 1)] += 1;
      const most = Math.max(...counts), top = i * lane + 4, base = top + tall;
      const bars = counts.map((count, b) => (count ? `<rect x="${(at(low + b * wide) + 0.5).toFixed(1)}" y="${(base - (count / most) * tall).toFixed(1)}" width="${((width - 12) / bins - 1).toFixed(1)}" height="${((count / most) * tall).toFixed(1)}" fill="${color}" opacity=".35"/>` : "")).join("");
      const rug = values.length <= 60 ? values.map((value) => `<path d="M${at(value).toFixed(1)} ${base - 7}v7" stroke="${color}" stroke-width="1.2"/>`).join("") : "";
      const line = values.length > 1 ? `<path d="M${at(found.q05).toFixed(1)} ${base + 7}H${at(found.q95).toFixed(1)}" stroke="${color}" stroke-width="2"/><circle cx="${at(found.q50).toFixed(1)}" cy="${base + 7}" r="3.5" fill="${color}"/>` : "";
      return `<path class="axis" d="M6 ${base}H${width - 6}"/>${bars}${rug}${line}`;
    }).join("");
    const foot = height - 4;
    const marks = axis ? ticks(low, high).map((value) => `<text x="${at(value).toFixed(1)}" y="${foot}" text-anchor="middle">${plain(value)}</text>`).join("") : "";
    const true_ = known(truth) ? `<path class="due" d="M${at(truth).toFixed(1)} 2V${charts.length * lane}" stroke-width="1.5"/>` : "";
    return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(label)}">${body}${true_}${marks}</svg>`;
  };

  // --- through the noise levels

  let way = null, playing = null;
  const drawWay = async (item) => {
    stop();
    const options = [], contents = [];
    for (const run of runs) {
      const index = item.at[run.number];
      if (!run.levels_kept || index === null) continue;
      let content = null;
      try { content = await fetched(run, "levels", index, file(run, index, "-levels")); } catch { continue; }
      if (!content) continue;
      contents.push(content);
      for (const key of Object.keys(content.pictures).sort((a, b) => (a === "mean" ? -1 : b === "mean" ? 1 : a - b))) {
        options.push({ label: `${key === "mean" ? "the posterior mean" : `sample ${Number(key) + 1}`}${several() ? `, ${run.name}` : ""}`, sigma: content.sigma, pictures: content.pictures[key] });
      }
    }
    if (item !== current) return;
    $("way").hidden = !options.length;
    if (!options.length) { way = null; return; }
    $("way-run").replaceChildren(...options.map((option, i) => make("option", { value: i, text: option.label })));
    way = { options, at: 0 };
    chooseWay();
  };
  const chooseWay = () => {
    const option = way.options[Number($("way-run").value)];
    const last = option.sigma.length - 1;
    $("level").max = last;
    $("strip").replaceChildren(...option.sigma.map((sigma, i) => make("button", { type: "button", onclick: () => setLevel(i) },
      make("img", { src: option.pictures.x0y[i], alt: `Level ${i + 1}`, width: 64 }), make("span", { text: `σ ${plain(sigma)}` }))));
    setLevel(last);
  };
  const setLevel = (level) => {
    const option = way.options[Number($("way-run").value)], sigma = option.sigma[level];
    way.at = level;
    $("level").value = level;
    $("level").setAttribute("aria-valuetext", `sigma ${plain(sigma)}, ${level + 1} of ${option.sigma.length}`);
    $("level-text").textContent = `σ ${plain(sigma)}`;
    const parts = { x_t: ["Noisy", "x_t, scaled to unit range"], x0hat: ["Guess of the prior", "x0hat, without the measurement"], x0y: ["With the measurement", "x0 drawn given x_t and y"] };
    $("way-pictures").replaceChildren(...Object.entries(parts).map(([key, [label, about]]) => make("figure", {},
      make("img", { src: option.pictures[key][level], alt: `${label} at sigma ${plain(sigma)}` }), make("figcaption", {}, label, make("small", { text: ` ${about}` })))));
    [...$("strip").children].forEach((button, i) => {
      if (i === level) { button.setAttribute("aria-current", "true"); $("strip").scrollTo({ left: button.offsetLeft - $("strip").clientWidth / 2 }); } else button.removeAttribute("aria-current");
    });
  };
  const stop = () => {
    clearInterval(playing);
    playing = null;
    $("play").setAttribute("aria-pressed", "false");
    $("play").textContent = "Play";
  };
  const play = () => {
    if (playing) { stop(); return; }
    const last = Number($("level").max);
    setLevel(way.at === last ? 0 : way.at);
    $("play").setAttribute("aria-pressed", "true");
    $("play").textContent = "Stop";
    playing = setInterval(() => { if (way.at >= last) stop(); else setLevel(way.at + 1); }, 550);
  };

  // --- numbers

  const columns = () => {
    const entries = items.flatMap((item) => runs.map((run) => record(item, run)).filter(Boolean));
    const single = entries.every((entry) => entry.samples.length < 2);
    const of = (choice, key) => (entry) => entry[choice]?.[key] ?? null;
    const all = [];
    const add = (head, value, count, about = "") => { if (entries.some((entry) => known(value(entry)))) all.push({ head, value, digits: count, about }); };
    for (const [key, head] of Object.entries(page.headings)) {
      if (!single) add(head, of("posterior_mean", key), digits(key), "mean");
    }
    for (const key of ["psnr", "residual"]) add(page.headings[key], of("sample_mean", key), digits(key), single ? "" : "a sample");
    if (single) for (const key of Object.keys(page.headings)) if (!["psnr", "residual"].includes(key)) add(page.headings[key], of("sample_mean", key), digits(key));
    for (const key of ["crps", "coverage", "coverage_due", "spread_error"]) add(page.headings[key], of("ensemble", key), digits(key));
    add("noise found / stated", (entry) => entry.noise?.ratio ?? null, 3);
    return all;
  };
  const ROWS = 25;
  const table = { sort: null, sign: 1, page: 0, rows: [], columns: [] };
  const startTable = () => {
    table.columns = [
      { head: "image", value: (row) => row.item.name, text: true },
      ...(several() ? [{ head: "run", value: (row) => row.run.name, text: true }] : []),
      ...columns().map((column) => ({ ...column, value: (row) => column.value(row.entry) })),
    ];
    if (items.some(flagged)) table.columns.push({ head: "doubts", value: (row) => flagsOf(row.item, row.run).length, digits: 0, flag: true });
    table.rows = items.flatMap((item) => runs.map((run) => ({ item, run, entry: record(item, run) })).filter((row) => row.entry));
    drawTable();
  };
  const sortTable = (index) => {
    if (table.sort === index) table.sign = -table.sign;
    else { table.sort = index; table.sign = table.columns[index].text ? 1 : -1; }
    table.page = 0;
    table.rows.sort(compareBy(table.columns[index].value, table.sign));
    drawTable(index);
    say(`Sorted by ${table.columns[index].head} ${table.columns[index].about ?? ""}, ${table.sign > 0 ? "rising" : "falling"}.`);
  };
  const drawTable = (focus = null) => {
    const head = make("tr", {}, ...table.columns.map((column, i) => make("th", { scope: "col", "aria-sort": table.sort === i ? (table.sign > 0 ? "ascending" : "descending") : null },
      make("button", { type: "button", onclick: () => sortTable(i) }, make("b", { text: column.head }), column.about ? make("small", { text: column.about }) : null))));
    const rows = table.rows.slice(table.page * ROWS, (table.page + 1) * ROWS).map((row) => make("tr", { "data-name": row.item.name }, ...table.columns.map((column, i) => {
      const value = column.value(row);
      if (i === 0) return make("th", { scope: "row" }, make("button", { type: "button", text: value, title: "Show this image", onclick: () => show(row.item, { focus: true }) }));
      if (column.text) return make("td", {}, make("span", { class: `tag r${row.run.number % 6}`, text: value }));
      return make("td", { class: column.flag && value ? "flag" : null, text: column.flag ? (value ? `⚠ ${value}` : "") : fixed(value, column.digits) });
    })));
    $("table").replaceChildren(make("caption", { class: "unseen", text: "Numbers of each image; a click on a heading sorts" }), make("thead", {}, head), make("tbody", {}, ...rows));
    if (focus !== null) $("table").querySelectorAll("thead button")[focus].focus();
    drawPager($("table-pager"), table.rows.length, ROWS, table.page, "rows", (to) => { table.page = to; drawTable(); });
    markRow();
  };
  const markRow = () => {
    for (const row of $("table").querySelectorAll("tbody tr")) row.classList.toggle("current", row.dataset.name === current?.name);
  };

  const drawPlots = () => {
    const each = (run, value) => run.index.images.flatMap(value).filter(known);
    const wanted = [
      ["Residual of samples", (e) => e.samples.map((s) => s.residual), () => 1, "in standard deviations of the noise: 1 for the true image, less where noise is fitted", "sample"],
      ["Coverage", (e) => [e.ensemble?.coverage], (run) => mean(each(run, (e) => [e.ensemble?.coverage_due])), "share of pixels whose truth is inside the interval of the samples; the line is what is due", "image"],
      ["Spread / error", (e) => [e.ensemble?.spread_error], () => 1, "below 1 samples are too alike, above 1 too different", "image"],
      ["Noise found / stated", (e) => [e.noise?.ratio], () => 1, "which noise the samples leave of the measurement", "image"],
    ];
    $("plots").replaceChildren(...wanted.flatMap(([title, value, due, about, one]) => {
      const lanes = runs.map((run) => ({ run, values: each(run, value), due: due(run) })).filter((lane) => lane.values.length);
      if (!lanes.length) return [];
      const figure = make("figure");
      figure.innerHTML = spreadPlot(lanes, `${title}: ${lanes.map((lane) => `${several() ? `${lane.run.name} ` : ""}mean ${fixed(mean(lane.values), 3)}, expected ${fixed(lane.due, 3)}`).join("; ")}`);
      figure.append(make("figcaption", {}, make("b", { text: title }), `, a dot ${lanes.some((lane) => lane.values.length > DOTS) ? "or bar" : ""} for each ${one}: ${about}`.replace("  ", " ")));
      return [figure];
    }));
  };
  const DOTS = 160;
  const spreadPlot = (lanes, label) => {
    const width = 320, lane = 58, height = lanes.length * lane + 20;
    const all = lanes.flatMap((each) => [...each.values, each.due]);
    let [low, high] = [Math.min(...all), Math.max(...all)];
    const room = Math.max(0.12 * (high - low), 0.02 * Math.abs(high), 1e-3);
    [low, high] = [low - room, high + room];
    const at = (value) => 8 + ((value - low) / (high - low)) * (width - 16);
    const body = lanes.map((each, i) => {
      const base = (i + 1) * lane - 6, color = several() ? `var(--r${each.run.number % 6})` : "var(--accent)", bins = 52;
      const columns = new Array(bins).fill(0);
      const most = () => Math.max(...columns);
      const place = (value) => clamp(Math.floor(((at(value) - 8) / (width - 16)) * bins), 0, bins - 1);
      for (const value of each.values) columns[place(value)] += 1;
      const step = Math.min(6, (lane - 14) / most());
      const dots = each.values.length > DOTS
        ? columns.map((count, b) => (count ? `<rect x="${8 + (b * (width - 16)) / bins}" width="${(width - 16) / bins - 0.7}" y="${base - (count / most()) * (lane - 12)}" height="${(count / most()) * (lane - 12)}" fill="${color}" opacity=".65"/>` : "")).join("")
        : (() => { const stacked = new Array(bins).fill(0); return each.values.map((value) => `<circle cx="${at(value).toFixed(1)}" cy="${(base - 4 - step * stacked[place(value)]++).toFixed(1)}" r="${Math.min(3, step / 2 + 0.4).toFixed(1)}" fill="${color}" opacity=".75"/>`).join(""); })();
      return `<path class="axis" d="M8 ${base}H${width - 8}"/><path class="due" d="M${at(each.due).toFixed(1)} ${base - lane + 10}V${base}" stroke-width="1.5"/>${dots}`;
    }).join("");
    const marks = ticks(low, high).map((value) => `<text x="${clamp(at(value), 14, width - 14).toFixed(1)}" y="${height - 4}" text-anchor="middle">${plain(value)}</text>`).join("");
    return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(label)}">${body}${marks}</svg>`;
  };

  const drawPairs = () => {
    for (const place of document.querySelectorAll("table.pairs")) {
      const pair = page.comparison.pairs[Number(place.dataset.pair)];
      const head = ["", "difference", "95 % interval", "", "better on"];
      const rows = pair.rows.map((row) => {
        const [low, high] = row.interval ?? [row.difference, row.difference];
        const far = Math.max(Math.abs(low), Math.abs(high), 1e-12) * 1.15, at = (value) => 130 + (value / far) * 122;
        const clear = row.interval && (low > 0 || high < 0);
        const places = digits(row.key) + (Math.max(Math.abs(row.difference), Math.abs(low), Math.abs(high)) < 0.01 ? 2 : 0);
        const signed = (value) => (value > 0 ? "+" : "") + fixed(value, places);
        const bar = `<svg viewBox="0 0 260 22" aria-hidden="true"><path class="axis" d="M130 2V20"/><path d="M${at(low)} 11H${at(high)}" stroke="var(--r${pair.run % 6})" stroke-width="${clear ? 3 : 1.5}"/><circle cx="${at(row.difference)}" cy="11" r="4" fill="var(--r${pair.run % 6})"/></svg>`;
        return `<tr><th scope="row">${escape(row.metric)} <small>${escape(row.of)}</small></th><td>${signed(row.difference)}</td><td>${row.interval ? `${signed(low)} to ${signed(high)}` : DASH}</td><td>${bar}</td><td>${row.better === null ? DASH : `${row.better} of ${row.images}`}</td></tr>`;
      });
      place.innerHTML = `<thead><tr>${head.map((h) => (h ? `<th scope="col">${h}</th>` : "<td></td>")).join("")}</tr></thead><tbody>${rows.join("")}</tbody>`;
    }
  };

  // --- with what it was computed

  const drawEnvironment = (run) => {
    const place = document.querySelector(`[data-environment="${run.number}"]`), found = run.environment;
    const told = {
      Python: found.python, ...found.libraries, ...found.plugins, platform: found.platform,
      device: found.device_name ?? found.device, "batch size": found.batch_size,
    };
    for (const [key, value] of Object.entries(told)) {
      if (value !== undefined && value !== null) place.append(make("div", {}, make("dt", { text: key }), make("dd", { text: value })));
    }
    if (known(found.seconds)) {
      const figure = document.querySelector(`[data-seconds="${run.number}"]`);
      const s = found.seconds;
      figure.querySelector("dd").textContent = s < 100 ? `${plain(s)} s` : s < 6000 ? `${plain(s / 60)} min` : `${plain(s / 3600)} h`;
      figure.hidden = false;
    }
  };

  // --- light, dark, copies

  const theme = () => {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
    const tell = () => $("theme").setAttribute("aria-pressed", isDark());
    $("theme").addEventListener("click", () => {
      const wished = isDark() ? "light" : "dark";
      document.documentElement.dataset.theme = wished;
      try { localStorage.setItem("daps-kit-theme", wished); } catch { /* kept for this visit only */ }
      tell();
    });
    dark.addEventListener("change", tell);
    tell();
  };
  const copies = () => {
    for (const button of document.querySelectorAll(".copy")) {
      const words = button.textContent;
      button.addEventListener("click", async () => {
        const code = button.closest(".copyable").querySelector("code");
        let done = true;
        try { await navigator.clipboard.writeText(code.textContent); } catch {
          const range = document.createRange();
          range.selectNodeContents(code);
          getSelection().removeAllRanges();
          getSelection().addRange(range);
          done = document.execCommand("copy");
        }
        button.textContent = done ? "Copied" : "Selected: press Ctrl+C";
        say(button.textContent);
        setTimeout(() => { button.textContent = words; }, 2000);
      });
    }
  };

  // --- to begin

  const begin = async () => {
    theme();
    copies();
    const missing = [];
    await Promise.all(runs.map(async (run) => {
      load(run, "environment.js").then(() => drawEnvironment(run), () => {});
      if (run.inline) return;
      try {
        await load(run, "index.js");
        const parts = Math.ceil(run.index.names.length / page.numbers);
        await Promise.all(Array.from({ length: parts }, (_, part) => load(run, `numbers-${part}.js`)));
      } catch { missing.push(run); }
    }));
    if (missing.length) {
      $("thumbs").replaceChildren(make("li", { text: "The folder report was not brought along with the page: there are no pictures." }));
      return;
    }
    const places = new Map();
    for (const run of runs) {
      run.index.names.forEach((label, i) => {
        if (!places.has(label)) places.set(label, { name: label, at: runs.map(() => null) });
        places.get(label).at[run.number] = i;
      });
    }
    items = [...places.values()];
    document.querySelector(".browser").classList.toggle("one", items.length === 1);
    $("order").replaceChildren(...orders().map(([key, label]) => make("option", { value: key, text: label })));
    $("order").addEventListener("change", () => arrange());
    $("find").addEventListener("input", () => arrange());
    $("before").hidden = $("after").hidden = items.length === 1;
    $("way-run").addEventListener("change", () => { stop(); chooseWay(); });
    $("level").addEventListener("input", () => { stop(); setLevel(Number($("level").value)); });
    $("play").addEventListener("click", play);
    listenToPictures();
    setSplit(50);
    arrange();
    startTable();
    drawPlots();
    if (page.comparison) drawPairs();
    await show(shown[0]);
    document.documentElement.dataset.ready = "true";
  };

  page = JSON.parse($("data").textContent);
  colours = Uint8Array.from(page.colours.match(/../g), (byte) => parseInt(byte, 16));
  runs = page.runs.map((run, number) => ({ ...run, number, levels_kept: run.levels, index: null, thumbs: new Map(), images: new Map(), levels: new Map(), environment: null }));
  document.addEventListener("DOMContentLoaded", begin);
  return receive;
})();
