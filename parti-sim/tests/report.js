"use strict";
// Asks the page about itself, once it is drawn, and leaves the answers in it.
{
  const answers = { errors: [] };
  window.addEventListener("error", event => answers.errors.push(event.message));
  const press = key => (document.activeElement || document.body).dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  const shown = () => [from / end, to / end].map(part => Math.round(part * 1000) / 1000);
  const rgb = colour => {
    const pen = document.createElement("canvas").getContext("2d");
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data.slice(0, 3)];
  };
  const apart = (one, other) => Math.hypot(...one.map((part, place) => part - other[place]));
  const ask = () => {
    answers.dark = rgb(getComputedStyle(document.body).backgroundColor)[0] < 128;
    answers.verdict = element("verdict").textContent;
    answers.why = element("why").textContent;
    answers.again = element("again").textContent;
    answers.titles = titles;

    // Each colour that a picture uses by name is in a legend.
    const page = document.documentElement.outerHTML, script = document.querySelector("main + #tip + script").textContent;
    const drawn = new Set([...script.matchAll(/look\("([a-z]+)"\)/g)].map(match => match[1]));
    for (const text of ["dim", "ink", "line", "card", "bad"]) drawn.delete(text); // letters, lines and signs
    const keys = [...document.querySelectorAll(".key")].map(key => key.innerHTML).join();
    answers.unexplained = [...drawn].filter(name => !keys.includes("var(--" + name + ")"));

    const nobody = rgb(look("nobody"));
    const palette = Array.from({ length: 200 }, (_, number) => { lastSlot[1e6 + number] = number; return rgb(colour(1e6 + number)); });
    answers.nearest_to_nobody = Math.min(...palette.map(worker => apart(worker, nobody)));
    press("m");
    const map = element("map"), pixels = map.getContext("2d").getImageData(LEFT, 0, map.width - LEFT - RIGHT, map.height - BOTTOM).data;
    answers.pixels_of_nobody = 0;
    for (let at = 0; at < pixels.length; at += 4) answers.pixels_of_nobody += apart([...pixels.slice(at, at + 3)], nobody) < 3;
    answers.workers_named = element("workers").querySelectorAll("i").length;

    const look_for = name => {
      element("find").value = name;
      element("find").dispatchEvent(new Event("input"));
      return element("hits").textContent;
    };
    answers.found = { part_of_a_name: look_for("p0004"), nothing: look_for("nobody is called so") };
    look_for("p00042");
    answers.found.selected = selected < 0 ? "" : data.names[selected];
    answers.found.rows = element("found").querySelectorAll("td.number").length / 2;

    const keysDo = answers.keys = {};
    press("Escape");
    press("0"); keysDo.all = shown();
    press("+"); keysDo.closer = shown();
    press("ArrowRight"); keysDo.later = shown();
    press("ArrowLeft"); keysDo.earlier = shown();
    press("/"); keysDo.search_has_focus = document.activeElement === element("find");
    press("Escape");
    map.focus();
    press("ArrowDown"); press("ArrowDown");
    keysDo.second_row = element("find").value;
    keysDo.expected_second_row = data.names[order[1]] || "";
    press("Escape"); keysDo.escape = element("find").value;
    const clickable = [...document.querySelectorAll("#plans tr, #timeline tr, canvas, button, input")];
    keysDo.out_of_reach = clickable.filter(one => !one.querySelector("th") && one.tabIndex < 0).length;
  };
  try { ask(); } catch (error) { answers.errors.push(String(error)); }
  const pre = document.createElement("pre");
  pre.id = "answers";
  pre.textContent = JSON.stringify(answers);
  document.body.appendChild(pre);
}
