// Loads the page of a run anew, until that has ended or one does not want it.
"use strict";

const { seconds } = JSON.parse(document.getElementById("data").textContent);
const timer = setInterval(() => location.reload(), 1000 * seconds);
const button = document.createElement("button");
button.textContent = "Stop reloading";
button.onclick = () => {
  clearInterval(timer);
  button.remove();
};
document.querySelector("h1").after(button);
