/* Live pages: what asks for news (htmx), what draws it (uPlot), and what a reader chooses. Nothing here is needed to
   read a page or to act on it. */
"use strict";

(function () {
    const live = document.getElementById("live");
    const news = document.getElementById("news");
    const pause = document.getElementById("pause");
    const theme = document.getElementById("theme");
    const plots = new Map();
    let paused = false;
    let shown = "";

    // -- light and dark

    const COOKIE = "djtasks_theme";
    const root = document.documentElement;
    const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");

    function isDark() {
        return root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches;
    }

    if (theme) {
        theme.hidden = false;
        theme.addEventListener("click", function () {
            root.dataset.theme = isDark() ? "light" : "dark";
            document.cookie = COOKIE + "=" + root.dataset.theme + "; path=/; max-age=31536000; samesite=lax";
            redraw();
        });
        prefersDark.addEventListener("change", redraw);
    }

    // -- charts

    function colour(name) {
        return getComputedStyle(root).getPropertyValue("--" + name).trim() || "#888";
    }

    function clock(plot, seconds) {
        return seconds.map((each) => new Date(each * 1000).toLocaleTimeString(root.lang || [], { hour: "2-digit", minute: "2-digit" }));
    }

    function options(chart, width) {
        const axis = { stroke: colour("quiet"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
        return {
            width: width,
            height: 180,
            cursor: { drag: { x: false, y: false } },
            legend: { live: true },
            scales: { y: { range: (plot, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
            axes: [Object.assign({ values: clock, space: 70 }, axis), Object.assign({ size: 60 }, axis)],
            series: [{ value: (plot, value) => (value ? clock(plot, [value])[0] : "–") }].concat(chart.lines.map((line) => ({
                label: line.title, stroke: colour(line.colour), width: 2, spanGaps: false, points: { show: true, size: 3 },
                value: (plot, value) => (value === null || value === undefined ? "–" : +value.toPrecision(4) + "")
            })))
        };
    }

    function draw() {
        const data = document.getElementById("data");
        if (!data || !window.uPlot) {
            return;
        }
        for (const chart of JSON.parse(data.dataset.charts)) {
            const place = document.querySelector('[data-chart="' + chart.name + '"]');
            if (!place) {
                continue;
            }
            const values = [chart.times].concat(chart.lines.map((line) => line.values));
            const titles = chart.lines.map((line) => line.title).join("\n");
            const known = plots.get(chart.name);
            if (known && known.titles === titles) {
                known.plot.setData(values);
                continue;
            }
            if (known) {
                known.plot.destroy();
            }
            const plot = new window.uPlot(options(chart, place.clientWidth || 300), values, place);
            plots.set(chart.name, { plot: plot, titles: titles, place: place });
        }
    }

    function redraw() {
        for (const known of plots.values()) {
            known.plot.destroy();
        }
        plots.clear();
        draw();
    }

    let resizing = 0;
    window.addEventListener("resize", function () {
        window.clearTimeout(resizing);
        resizing = window.setTimeout(function () {
            for (const known of plots.values()) {
                known.plot.setSize({ width: known.place.clientWidth || 300, height: 180 });
            }
        }, 150);
    });

    // -- news

    function tell() {
        const said = document.querySelector("#live [data-news]");
        const text = said ? said.dataset.news : "";
        if (news && shown && text && text !== shown) {
            news.textContent = text;
        }
        shown = text || shown;
    }

    function keyOf(element) {
        if (!element || !live || !live.contains(element)) {
            return null;
        }
        return element.id ? "#" + CSS.escape(element.id) : element.getAttribute("href") ? '[href="' + CSS.escape(element.getAttribute("href")) + '"]' : null;
    }

    if (live) {
        if (pause) {
            pause.hidden = false;
            pause.addEventListener("click", function () {
                paused = !paused;
                pause.setAttribute("aria-pressed", String(paused));
            });
        }
        let tag = "";
        let focused = null;
        let open = [];
        // A page that nobody looks at asks for nothing.
        live.addEventListener("htmx:beforeRequest", function (event) {
            if (document.hidden || paused) {
                event.preventDefault();
            }
        });
        live.addEventListener("htmx:beforeSwap", function (event) {
            const now = event.detail.xhr.getResponseHeader("ETag") || "";
            const chosen = window.getSelection();
            const reading = chosen && !chosen.isCollapsed && live.contains(chosen.anchorNode);
            if ((now && now === tag) || reading) {
                event.detail.shouldSwap = false;
                return;
            }
            tag = now;
            focused = keyOf(document.activeElement);
            open = Array.from(live.querySelectorAll("details")).map((each) => each.open);
        });
        live.addEventListener("htmx:afterSwap", function () {
            live.querySelectorAll("details").forEach((each, place) => { each.open = Boolean(open[place]); });
            if (focused) {
                const again = live.querySelector(focused);
                if (again) {
                    again.focus({ preventScroll: true });
                }
            }
            draw();
            tell();
        });
        document.addEventListener("visibilitychange", function () {
            if (!document.hidden && window.htmx) {
                window.htmx.trigger(live, "djtasks:wake");
            }
        });
    }
    draw();
    tell();
})();
