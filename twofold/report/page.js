// Read-outs under the pointer. Without this script every chart, table and text is there all the same.
for (const frame of document.querySelectorAll(".frame")) {
  const data = JSON.parse(frame.parentElement.querySelector("script").textContent);
  const rule = document.createElement("div");
  const box = document.createElement("div");
  rule.className = "hover-rule";
  box.className = "hover-box";
  frame.append(rule, box);
  const dots = data.lines.map((line) => {
    const dot = document.createElement("div");
    dot.className = "hover-dot " + line.tone;
    frame.append(dot);
    return dot;
  });
  const format = (value) => Math.abs(value) >= 1e4 || Number.isInteger(value)
    ? Math.round(value).toLocaleString("en") : value.toPrecision(4);
  const nearest = (line, at) => line.at.reduce((best, p, i) =>
    Math.abs(p[0] - at) < Math.abs(line.at[best][0] - at) ? i : best, 0);
  frame.addEventListener("pointermove", (event) => {
    const plot = frame.querySelector("svg").getBoundingClientRect();
    const at = Math.min(100, Math.max(0, 100 * (event.clientX - plot.left) / plot.width));
    const edge = frame.getBoundingClientRect();
    const place = (element, p) => {
      element.style.left = plot.left - edge.left + plot.width * p[0] / 100 + "px";
      element.style.top = plot.top - edge.top + plot.height * p[1] / 100 + "px";
    };
    const found = data.lines.map((line) => nearest(line, at));
    const rows = data.lines.map((line, i) => {
      place(dots[i], line.at[found[i]]);
      return [line.name, format(line.y[found[i]]) + (data.unit ? " " + data.unit : ""), line.x[found[i]]];
    });
    box.replaceChildren(...rows.map(([name, value, x]) => {
      const row = document.createElement("div");
      const number = document.createElement("b");
      number.textContent = value;
      row.append(number, ` ${name}, ${data.x} ${format(x)}`);
      return row;
    }));
    place(rule, [data.lines[0].at[found[0]][0], 0]);
    rule.style.height = plot.height + "px";
    box.style.left = plot.left - edge.left + plot.width * at / 100 + "px";
    box.classList.toggle("left", at > 55);
    frame.classList.add("hovered");
  });
  frame.addEventListener("pointerleave", () => frame.classList.remove("hovered"));
}

addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details")) fold.open = true;
});
