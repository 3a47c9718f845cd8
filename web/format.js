// SPDX-License-Identifier: Apache-2.0
// Figures as people read them, and back.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/** 1536 -> "1.5 KiB"; unknown: a dash. */
export function bytes(n) {
  if (n === null || n === undefined || Number.isNaN(n)) return "–";
  let unit = 0;
  let v = Math.abs(n);
  while (v >= 1024 && unit < UNITS.length - 1) {
    v /= 1024;
    unit++;
  }
  const digits = unit === 0 || v >= 100 || Number.isInteger(v) ? 0 : v >= 10 ? 1 : 2;
  return `${n < 0 ? "−" : ""}${v.toFixed(digits)} ${UNITS[unit]}`;
}

export const exactBytes = n => `${count(n)} bytes`;
export const rate = n => (n === null || n === undefined ? "–" : `${bytes(n)}/s`);
export const count = n =>
  n === null || n === undefined ? "–" : Number(n).toLocaleString("en", {maximumFractionDigits: n < 10 ? 1 : 0});

export function percent(part, whole) {
  if (!whole) return "–";
  const p = (100 * part) / whole;
  if (p > 0 && p < 0.1) return "<0.1 %";
  if (p > 99.9 && p < 100) return ">99.9 %";
  return `${p < 10 && p > 0 ? p.toFixed(1) : Math.round(p)} %`;
}

/** Seconds -> "1 h 4 min", "3 min 2 s", "12 s", "40 ms". */
export function duration(s) {
  if (s === null || s === undefined) return "–";
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 60) return `${s < 10 ? Math.round(s * 10) / 10 : Math.round(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.round((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.round((s % 86400) / 3600)} h`;
}

/** An RFC 3339 time in the reader's zone, to the second. */
export function time(text) {
  const t = text ? new Date(text) : null;
  if (!t || Number.isNaN(t.getTime())) return "–";
  const two = n => String(n).padStart(2, "0");
  return `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ` +
    `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
}

/** "0x200", "4096", "1.5G", "3s" (sectors of 512) -> bytes; NaN: no number. */
export function parseOffset(text) {
  const t = text.trim().replaceAll(/[_\s]/g, "");
  if (/^0x[0-9a-f]+$/i.test(t)) return Number.parseInt(t, 16);
  const m = /^(\d+(?:\.\d+)?)([kmgtpe]i?b?|b|s)?$/i.exec(t);
  if (!m) return NaN;
  const unit = (m[2] ?? "").toLowerCase();
  if (unit === "s") return Math.floor(Number(m[1]) * 512);
  const power = unit && unit !== "b" ? "kmgtpe".indexOf(unit[0]) + 1 : 0;
  return Math.floor(Number(m[1]) * 1024 ** power);
}

export const hex = (n, width = 0) => `0x${n.toString(16).padStart(width, "0")}`;
