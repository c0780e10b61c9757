// This file keeps a page alive. It hears when there is a new code or the sign-in
// is over, counts down, dims and moves a screen that nobody touches, and leaves
// the page only for a server that answers. It is plain ES5, for old players.
// What it shows stands in data- attributes of main, in the page's language.
(function () {
  var GRACE = 5000, LATE = 10000, DIM = 120000, ALIVE = 10000, MINUTE = 60000, STAY = 10000, BACKOFF = [5, 10, 20, 30];
  var EVENTS = ["pending", "renewed", "approved", "active", "denied", "expired", "failed", "ended", "superseded"];
  var root = document.documentElement, main = document.querySelector("main");
  var status = line("spoken", "role", "status"), note = line("trouble", "aria-hidden", "true");

  function line(name, attribute, value) {
    var p = document.createElement("p");
    p.className = name;
    p.setAttribute(attribute, value);
    return document.body.appendChild(p);
  }

  function given(name) { return main.getAttribute("data-" + name) || ""; }

  // here is where this page, or what has become of it, can be had anew.
  function here() { return given("reload-url") || location.href; }

  function each(selector, f) {
    var all = main.querySelectorAll(selector);
    for (var i = 0; i < all.length; i++) f(all[i]);
  }

  function write(element, text) { if (element.textContent !== text) element.textContent = text; }

  // time is in ms since the page came. Sleep counts; a clock set back does not.
  var last = Date.now(), passed = 0;
  function time() {
    var now = Date.now();
    passed += Math.max(0, now - last);
    last = now;
    return passed;
  }

  function ask(method, url, accept, seconds, done, body) {
    var x = new XMLHttpRequest();
    x.open(method, url);
    x.timeout = seconds * 1000;
    x.setRequestHeader("Accept", accept);
    // not a navigation, in the server's eyes: an old browser says nothing else
    x.setRequestHeader("X-Requested-With", "XMLHttpRequest");
    if (body) x.setRequestHeader("Content-Type", "application/x-www-form-urlencoded");
    x.onload = function () {
      if (answers(x.status)) recovered();
      done(x.status, x.responseText);
    };
    x.onerror = x.ontimeout = function () { done(0, ""); };
    x.send(body || null);
    return x;
  }

  function answers(code) { return code > 0 && code < 502; }

  // Trouble: the server does not answer. What is shown stays, one sentence says
  // so, and after a while what was to be done is tried again.
  var retry = null, retryAt = 0, failures = 0;
  function trouble(what) {
    stop();
    var seconds = BACKOFF[Math.min(failures++, BACKOFF.length - 1)];
    retry = what;
    retryAt = time() + seconds * 1000;
    tick();
    if (failures === 1) write(status, note.textContent);
  }

  function tryAgain() {
    var what = retry;
    retry = null;
    if (what) what();
  }

  function recovered() {
    failures = 0;
    write(note, "");
  }

  // reach does something once the server answers.
  function reach(what) {
    stop();
    ask("GET", given("wait-url") + "?timeout=0", "application/json", 10, function (code) {
      if (answers(code)) what();
      else trouble(function () { reach(what); });
    });
  }

  function go(url) { reach(function () { location.replace(url); }); }

  // A second touch is no second code.
  var sent = -Infinity;
  function submit(form) {
    if (time() - sent < STAY) return;
    sent = time();
    reach(function () { form.submit(); });
  }

  // Listening: a stream of events where the browser has them and the server
  // gives one, else one question after the other.
  var source = null, request = null, lost = null, streams = !!window.EventSource;
  function stop() {
    if (source) source.close();
    var r = request;
    source = request = lost = null;
    if (r) r.abort();
  }

  function listen() {
    stop();
    if (!given("live") || document.hidden || retry) return;
    if (streams) stream();
    else poll();
  }

  function stream() {
    var s = source = new EventSource(given("wait-url")), opened = false;
    s.onopen = function () {
      opened = true;
      lost = null;
      recovered();
    };
    s.onerror = function () {
      if (s !== source) return;
      if (s.readyState === 2) {
        streams = opened;
        stop();
        poll();
      } else if (lost === null) {
        // it comes back by itself, or tick looks into it
        lost = time();
      }
    };
    for (var i = 0; i < EVENTS.length; i++) s.addEventListener(EVENTS[i], function (e) { hear(parse(e.data)); });
  }

  function poll() {
    var r = request = ask("GET", given("wait-url") + "?timeout=25", "application/json", 40, function (code, text) {
      if (r !== request) return;
      request = null;
      if (!answers(code)) trouble(listen);
      else if (code === 429 || code >= 500) setTimeout(listen, GRACE);
      else if (!hear(parse(text))) setTimeout(listen, 1000);
    });
  }

  function parse(text) {
    try { return JSON.parse(text); } catch (e) { return null; }
  }

  // hear compares what the server says with what is shown, and reports whether
  // something is done about it.
  function hear(data) {
    if (!data) return false;
    if (leads(data.status)) {
      go(here());
    } else if (data.status !== given("status") || (data.user_code || "") !== given("code") || (data.reason || "") !== given("reason")) {
      renew();
    } else {
      return false;
    }
    return true;
  }

  // leads reports whether the server leads on from there, by a navigation.
  function leads(state) { return state === "active" || state === "superseded"; }

  // renew fetches the page and takes over what it shows, without a flash.
  function renew() {
    stop();
    ask("GET", here(), "text/html", 10, function (code, text) {
      if (!answers(code) || code === 429 || code >= 500) return trouble(renew);
      var page = parseHTML(text);
      var next = page && page.querySelector("main");
      if (!next || leads(next.getAttribute("data-status"))) return location.replace(here());
      swap(document.importNode(next, true), page.title);
    });
  }

  // parseHTML gives nothing in an old browser.
  function parseHTML(text) {
    try { return new DOMParser().parseFromString(text, "text/html"); } catch (e) { return null; }
  }

  function swap(next, title) {
    var focused = main.contains(document.activeElement) && document.activeElement.id;
    var changed = next.getAttribute("data-status") !== given("status");
    var same = !changed && next.getAttribute("data-code") === main.getAttribute("data-code");
    next.setAttribute("data-place", given("place"));
    main.parentNode.replaceChild(next, main);
    main = next;
    document.title = title;
    var button = focused && document.getElementById(focused);
    if (button) button.focus();
    if (!same || given("reason")) write(status, given("say"));
    show();
    // another code alone wakes nobody, or a wall at night would never rest
    if (changed) wake();
    listen();
  }

  // show begins what the page has of times.
  var end = 0, due = null, seen = 0, moved = 0, life = -Infinity;
  function show() {
    end = time() + given("left") * 1000;
    due = given("after") ? time() + given("after") * 1000 : null;
    each("[data-script]", function (e) { e.removeAttribute("hidden"); });
    tick();
  }

  function wake() {
    seen = moved = time();
    root.removeAttribute("data-dim");
    tick();
  }

  function tick() {
    var now = time(), left = Math.ceil((end - now) / 1000);
    each("[data-countdown]", function (e) {
      write(e, left > 0 ? e.getAttribute("data-countdown").replace("{time}", Math.floor(left / 60) + ":" + ("0" + left % 60).slice(-2)) : "");
    });
    if (due !== null) each("[data-due]", function (e) { fill(e, e.getAttribute("data-due"), due - now); });
    if (retry) fill(note, given("offline"), retryAt - now);
    if (now - seen > DIM) rest(now);
    if (retry && now >= retryAt) return tryAgain();
    if (lost !== null && now - lost > GRACE) return reach(listen);
    // the connection can be dead without anybody here being told
    if (given("live") && given("code") && !document.hidden && !retry && now - end > LATE) {
      end = now;
      return renew();
    }
    if (due !== null && now >= due) {
      due = null;
      if (given("live")) renew();
      else go(here());
    }
  }

  // fill writes a sentence with the seconds that are left, once they are few.
  function fill(element, sentence, left) {
    var words = given("seconds").split("|")[Math.max(1, Math.ceil(left / 1000)) - 1];
    if (words) write(element, sentence.replace("{seconds}", words));
  }

  // rest spares a screen that nobody touches. It moves only then, so that
  // nothing moves away from under a finger.
  function rest(now) {
    root.setAttribute("data-dim", "");
    if (now - moved < MINUTE) return;
    moved = now;
    main.setAttribute("data-place", (+given("place") + 1) % 8);
  }

  // A sign of life: somebody is there.
  function touched(e) {
    wake();
    if (given("touch") && !passing(e)) return submit(main.querySelector("form"));
    if (due !== null && given("status") === "active") due = Math.max(due, time() + STAY);
    if (!given("live") || time() - life < ALIVE) return;
    life = time();
    ask("POST", given("login-url"), "application/json", 10, function () {}, "alive=1");
  }

  // passing reports whether it is a key by which somebody goes elsewhere.
  function passing(e) {
    return e.type === "visibilitychange" || e.ctrlKey || e.altKey || e.metaKey ||
      e.type === "keydown" && (e.keyCode === 9 || e.keyCode === 27 || e.keyCode >= 16 && e.keyCode <= 20);
  }

  function on(names, f) { for (var i = 0; i < names.length; i++) document.addEventListener(names[i], f); }

  on(["touchstart", "pointerdown", "mousedown", "keydown"], touched);
  on(["mousemove", "pointermove"], wake);
  on(["visibilitychange"], function (e) {
    if (document.hidden) return stop();
    touched(e);
    if (retry) tryAgain();
    else listen();
  });
  on(["submit"], function (e) {
    e.preventDefault();
    submit(e.target);
  });
  on(["click"], function (e) {
    var href = e.target.getAttribute && e.target.getAttribute("href");
    if (!href || href.charAt(0) !== "/") return;
    e.preventDefault();
    go(href);
  });
  window.addEventListener("online", tryAgain);
  setInterval(tick, 1000);
  show();
  listen();
})();
