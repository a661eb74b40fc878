/*
 * The form of a periodic task: shows the fields of the chosen kind of schedule, and says in words, as one types, what
 * the schedule means and when the next runs are. Without it the form works all the same; the server checks everything.
 *
 * What the server says is put into the page as text, never as markup.
 */
"use strict";
{
    const FIELDS = {
        interval: ["every", "period", "relative"],
        crontab: ["minute", "hour", "day_of_month", "month_of_year", "day_of_week", "timezone"],
        clocked: ["clocked_0", "clocked_1"],
        solar: ["event", "latitude", "longitude"],
    };
    // Arguments are not among them: what is in an address may stand in the log of a web server.
    const OTHERS = ["kind", "task", "enabled", "start_time_0", "start_time_1", "expires_0", "expires_1", "expire_seconds"];
    const JSONS = {args: "list", kwargs: "object", headers: "object", options: "object"};
    const PAUSE = 250;

    const input = name => document.getElementById(`id_${name}`);
    const rowOf = name => input(name)?.closest(".form-row");

    function made(tag, text, className) {
        const element = document.createElement(tag);
        element.textContent = text;
        if (className) {
            element.className = className;
        }
        return element;
    }

    class Form {
        constructor(panel) {
            this.panel = panel;
            this.touched = new Set();
            this.asking = null;
            this.timer = null;
            input("kind").addEventListener("change", () => this.switch());
            for (const name of [...OTHERS, ...Object.values(FIELDS).flat()]) {
                for (const event of ["input", "change", "focus"]) {
                    // The admin's calendar and clock write into a field and give it the focus; they send no event.
                    input(name)?.addEventListener(event, () => this.changed(name, event));
                }
            }
            for (const name of Object.keys(JSONS)) {
                input(name)?.addEventListener("input", () => this.check(name));
            }
            // The page brings the schedule's own preview; what the task takes is asked for where one is named.
            this.asked = input("task").value ? null : this.query();
            this.switch();
        }

        get kind() {
            return input("kind").value;
        }

        /* Show what belongs to the kind; what is hidden is not sent. */
        switch() {
            const wanted = new Set((FIELDS[this.kind] || []).map(rowOf));
            for (const name of Object.values(FIELDS).flat()) {
                const row = rowOf(name);
                const shown = wanted.has(row);
                row.classList.toggle("hidden", !shown);
                input(name).disabled = !shown;
            }
            rowOf("one_off")?.classList.toggle("hidden", this.kind === "clocked");
            this.ask();
        }

        changed(name, event) {
            if (event !== "focus") {
                this.touched.add(name.replace(/_[01]$/, ""));
            }
            clearTimeout(this.timer);
            this.timer = setTimeout(() => this.ask(), PAUSE);
        }

        query() {
            const found = new URLSearchParams();
            for (const name of [...OTHERS, ...FIELDS[this.kind] || []]) {
                const each = input(name);
                if (each && (each.type !== "checkbox" || each.checked)) {
                    found.set(name, each.type === "checkbox" ? "on" : each.value);
                }
            }
            return found.toString();
        }

        async ask() {
            const query = this.query();
            if (query === this.asked) {
                return;
            }
            this.asked = query;
            this.asking?.abort();
            const asking = this.asking = new AbortController();
            this.panel.setAttribute("aria-busy", "true");
            try {
                const answer = await fetch(this.panel.dataset.url + query, {
                    signal: asking.signal,
                    headers: {Accept: "application/json"},
                    credentials: "same-origin",
                });
                if (!answer.ok) {
                    throw new Error(String(answer.status));
                }
                this.show(await answer.json());
            } catch (error) {
                if (asking.signal.aborted) {
                    return;
                }
                this.asked = null;
                this.tell("", [], "The next runs cannot be shown: the server gave no answer.");
            }
            this.panel.removeAttribute("aria-busy");
        }

        show(answer) {
            this.tell(answer.words, answer.runs, answer.note);
            for (const name of [...Object.values(FIELDS).flat(), ...OTHERS]) {
                const field = name.replace(/_[01]$/, "");
                if (this.touched.has(field)) {
                    this.complain(field, answer.errors[field] || []);
                }
            }
            this.hint("task", answer.task.warning, "djtasks-warning");
            this.hint("args", answer.task.takes, "help");
        }

        /* Fill the panel. */
        tell(words, runs, note) {
            const list = document.createElement("ol");
            list.className = "djtasks-runs";
            for (const run of runs) {
                const item = document.createElement("li");
                const time = made("time", run.text);
                time.dateTime = run.at;
                time.title = new Date(run.at).toLocaleString();
                item.append(time, " ", made("span", run.away, "djtasks-away"));
                list.append(item);
            }
            this.panel.replaceChildren(made("p", words, "djtasks-words"), list, made("p", note, "djtasks-note"));
        }

        /* What is wrong with a field, before it; in place of what the server said when the page was made. */
        complain(name, texts) {
            const first = input(name) || input(`${name}_0`);
            if (!first) {
                return;
            }
            const box = first.closest(".flex-container:not(.form-row)") || first.closest(".form-row");
            const row = first.closest(".form-row");
            document.getElementById(`id_${name}_live`)?.remove();
            for (const old of row.querySelectorAll(".errorlist:not(.djtasks-live)")) {
                old.remove();
            }
            box.classList.toggle("errors", texts.length > 0);
            if (texts.length) {
                const list = made("ul", "", "errorlist djtasks-live");
                list.id = `id_${name}_live`;
                list.setAttribute("role", "status");
                list.append(...texts.map(text => made("li", text)));
                box.before(list);
            }
            for (const each of [input(name), input(`${name}_0`), input(`${name}_1`)]) {
                each?.setAttribute("aria-invalid", String(texts.length > 0));
            }
        }

        /* A line below a field. */
        hint(name, text, className) {
            const id = `id_${name}_hint`;
            document.getElementById(id)?.remove();
            if (text) {
                const line = made("div", text, `djtasks-hint ${className}`);
                line.id = id;
                line.setAttribute("role", "status");
                rowOf(name).append(line);
            }
        }

        /* Whether what is typed is JSON of the right type; the rest is the server's to say. */
        check(name) {
            const text = input(name).value.trim();
            const texts = [];
            try {
                const value = text ? JSON.parse(text) : null;
                if (text && (value === null || typeof value !== "object" || Array.isArray(value) !== (JSONS[name] === "list"))) {
                    texts.push(JSONS[name] === "list" ? "This must be a list, like [1, \"two\"]." :
                        "This must be an object, like {\"name\": 1}.");
                }
            } catch {
                texts.push("Enter a valid JSON.");
            }
            this.complain(name, texts);
        }
    }

    const start = () => {
        const panel = document.querySelector(".djtasks-schedule");
        // Who may only look sees no fields.
        if (panel && input("kind")) {
            new Form(panel);
        }
    };
    if (document.readyState === "loading") {
        document.addEventListener("DOMContentLoaded", start);
    } else {
        start();
    }
}
