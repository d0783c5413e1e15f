// Counts the token's life down, and asks the app once a second which token is in use.

const card = document.getElementById("token");
const life = document.getElementById("life");
const seconds = document.getElementById("seconds");
const shown = document.getElementById("fingerprint");
const replaced = document.getElementById("replaced");

let fingerprint = card.dataset.fingerprint;
let expiresAt = Date.parse(card.dataset.expiresAt);
const lifetime = Number(card.dataset.lifetime);

function count() {
  const left = Math.max(0, (expiresAt - Date.now()) / 1000);
  seconds.textContent = left.toFixed(1);
  life.style.width = `${Math.min(100, (100 * left) / lifetime)}%`;
}

async function look() {
  const response = await fetch("/tokens/current");
  if (response.status === 401) {
    location.reload(); // the session is over
    return;
  }
  if (!response.ok) return; // the provider is out of reach: the next look tells
  const now = await response.json();
  if (now.fingerprint === fingerprint) return;
  const item = document.createElement("li");
  const old = document.createElement("code");
  old.textContent = fingerprint;
  item.append(old, ` at ${new Date().toLocaleTimeString()}`);
  replaced.querySelector(".none")?.remove();
  replaced.prepend(item);
  fingerprint = now.fingerprint;
  expiresAt = Date.parse(now.expires_at);
  shown.textContent = fingerprint;
  card.classList.remove("new");
  void card.offsetWidth; // restarts the animation
  card.classList.add("new");
}

count();
setInterval(count, 100);
setInterval(look, 1000);
