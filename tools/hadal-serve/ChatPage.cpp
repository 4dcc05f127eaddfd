// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The page at /: a chat, all in one file. It loads nothing from elsewhere.

#include "ChatPage.h"

const char hadal::serve::chatPage[] = R"html(<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hadal</title>
<style>
:root { color-scheme: light dark; --back: #f7f8fa; --card: #fff; --text: #16202c; --dim: #66727f; --line: #dfe4ea;
  --mine: #0b5cad; --accent: #0b5cad; --bad: #c01f1f; }
@media (prefers-color-scheme: dark) {
  :root { --back: #0e141b; --card: #161f29; --text: #e4eaf0; --dim: #8b98a6; --line: #27323e; --mine: #1b6fc4;
    --accent: #5aa9f5; --bad: #ff7b72; } }
* { box-sizing: border-box; }
body { margin: 0; height: 100dvh; display: flex; flex-direction: column; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
header, form, #log > div { width: 100%; max-width: 46rem; margin: 0 auto; padding: 0 1rem; }
header { display: flex; align-items: center; gap: .75rem; padding: .75rem 1rem; }
header b { font-size: 1.05rem; } header span { color: var(--dim); font-size: .85rem; flex: 1; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; }
#log { flex: 1; overflow-y: auto; border-top: 1px solid var(--line); padding: 1rem 0; }
.turn { display: flex; margin: .5rem 0; } .turn.user { justify-content: flex-end; }
.turn p { margin: 0; padding: .55rem .9rem; border-radius: 1rem; white-space: pre-wrap; overflow-wrap: anywhere;
  max-width: 85%; background: var(--card); border: 1px solid var(--line); }
.turn.user p { background: var(--mine); border-color: var(--mine); color: #fff; }
.turn.error p { color: var(--bad); } .empty { color: var(--dim); text-align: center; margin-top: 20vh; }
.wait::after { content: "\258d"; animation: blink 1s steps(2) infinite; } @keyframes blink { to { opacity: 0; } }
form { display: flex; gap: .5rem; align-items: flex-end; padding: .75rem 1rem 0; }
textarea { flex: 1; resize: none; max-height: 12rem; font: inherit; color: inherit; background: var(--card);
  border: 1px solid var(--line); border-radius: .8rem; padding: .6rem .8rem; }
button { font: inherit; border: 0; border-radius: .8rem; padding: .6rem 1rem; cursor: pointer; color: #fff;
  background: var(--mine); } button.plain { background: none; color: var(--accent); padding: .2rem .4rem; }
:is(button, textarea, input):focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
#settings { width: 100%; max-width: 46rem; margin: 0 auto; padding: .35rem 1rem .75rem; color: var(--dim);
  font-size: .8rem; display: flex; gap: 1rem; flex-wrap: wrap; }
#settings input { width: 4.5rem; font: inherit; color: inherit; background: none; border: 1px solid var(--line);
  border-radius: .4rem; padding: .1rem .3rem; } #rate { margin-left: auto; }
</style>
<header><b>Hadal</b><span id="model"></span><button class="plain" id="clear" type="button">New chat</button></header>
<div id="log" role="log" aria-live="polite"><div id="turns"><p class="empty">Ask something.</p></div></div>
<form id="form"><textarea id="text" rows="1" placeholder="Message" aria-label="Message" autofocus></textarea>
<button id="send">Send</button></form>
<div id="settings"><label>Temperature <input id="temperature" type="number" min="0" max="2" step="0.1" value="0.6"></label>
<label>Tokens <input id="tokens" type="number" min="1" value="512"></label><span id="rate"></span></div>
<script>
"use strict";
const $ = id => document.getElementById(id);
let messages = [], running = null;
fetch("/v1/models").then(r => r.json()).then(list => {
  $("model").textContent = list.data[0].id + ", context " + list.data[0].max_model_len;
}).catch(() => { $("model").textContent = "the server does not answer"; });
function scrollToEnd() { $("log").scrollTop = $("log").scrollHeight; }
function show(role, text) {
  if (!messages.length) $("turns").replaceChildren();
  const turn = document.createElement("div"), p = document.createElement("p");
  turn.className = "turn " + role; p.textContent = text; turn.append(p); $("turns").append(turn);
  scrollToEnd();
  return p;
}
function setRunning(controller) {
  running = controller; $("send").textContent = controller ? "Stop" : "Send";
}
async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let held = "";;) {
    const {value, done} = await reader.read();
    if (done) return;
    const events = (held + value).split("\n\n");
    held = events.pop();
    for (const event of events)
      if (event.startsWith("data: ") && event !== "data: [DONE]") yield JSON.parse(event.slice(6));
  }
}
async function ask(text) {
  show("user", text);
  messages.push({role: "user", content: text});
  const p = show("assistant", ""), asked = messages;
  p.className = "wait";
  const controller = new AbortController();
  setRunning(controller);
  let answer = "", first = 0, last = 0;
  $("rate").textContent = "";
  try {
    const response = await fetch("/v1/chat/completions", {method: "POST", signal: controller.signal,
      headers: {"Content-Type": "application/json"}, body: JSON.stringify({messages, stream: true,
        stream_options: {include_usage: true}, temperature: +$("temperature").value, max_completion_tokens: +$("tokens").value})});
    if (!response.ok) throw new Error((await response.json()).error.message);
    for await (const event of readEvents(response.body)) {
      if (event.error) throw new Error(event.error.message);
      if (event.usage) {
        // The first token comes with the prompt.
        const count = event.usage.completion_tokens, rate = (count - 1) / (last - first) * 1000;
        $("rate").textContent = count + " tokens" + (rate > 0 && isFinite(rate) ? ", " + rate.toFixed(1) + " a second" : "");
      }
      const piece = event.choices[0]?.delta.content;
      if (!piece) continue;
      const isAtEnd = $("log").scrollHeight - $("log").scrollTop - $("log").clientHeight < 60;
      answer += piece; p.textContent = answer;
      if (isAtEnd) scrollToEnd();
      last = performance.now();
      first ||= last;
    }
  } catch (error) {
    if (error.name !== "AbortError") { p.parentNode.classList.add("error"); p.textContent = answer || error.message; scrollToEnd(); }
  }
  p.className = "";
  if (asked === messages) {
    // What was not answered is not part of the chat.
    if (answer) messages.push({role: "assistant", content: answer});
    else { messages.pop(); $("text").value ||= text; }
  }
  setRunning(null);
}
$("form").onsubmit = event => {
  event.preventDefault();
  if (running) return running.abort();
  const text = $("text").value.trim();
  if (!text) return;
  $("text").value = ""; $("text").style.height = "";
  ask(text);
};
$("text").onkeydown = event => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    if (!running) $("form").requestSubmit();
  }
};
$("text").oninput = () => { $("text").style.height = ""; $("text").style.height = $("text").scrollHeight + "px"; };
$("clear").onclick = () => {
  if (running) running.abort();
  messages = []; $("turns").innerHTML = '<p class="empty">Ask something.</p>'; $("text").focus();
};
</script>
</html>
)html";
