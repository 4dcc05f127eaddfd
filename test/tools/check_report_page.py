#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Opens the page that hadalc --report=FILE.html makes in a browser, if there is one.
"""Checks a report as a page.

    check_report_page.py --hadalc build/bin/hadalc --model models/abyss-tiny [--screenshot FILE.png]
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

MACHINE = "bandwidth=20GB/s,int8=1TOPS,f32=100GFLOPS,dispatch=3us"


def fail(message):
    sys.exit(f"check_report_page.py: {message}")


def check_text(text):
    """The page is whole without a network, and no text of the model ends a script early."""
    for match in re.findall(r'(?:src|href)="[^"]*"|url\([^)]*\)|https?://\S+', text):
        if "www.w3.org/2000/svg" not in match:
            fail(f"the page needs {match}")
    if text.count("</script>") != 3:
        fail(f"expected 3 scripts, got {text.count('</script>')}")
    report, listing = (json.loads(part) for part in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL))
    names = {function["name"] for function in listing["functions"]}
    if not {"forward", "layer_dense", "layer_moe"} <= names:
        fail(f"the page has the functions {sorted(names)}")
    if not any("absorb" in name for name in listing["passes"]):
        fail(f"the page has the passes {listing['passes']}")
    changes = {change["pass"]: change for change in listing["changes"]}
    absorbed = changes.get("deepseek-absorb-latent-attention", {"ops": {}})["ops"]
    if absorbed.get("deepseek.absorbed_attention") != 2 or absorbed.get("deepseek.latent_attention") != -2:
        fail(f"absorbing changed {absorbed}, expected the attention of two distinct layers")
    if changes["rt-plan-memory"]["ops"] or not changes["rt-plan-memory"]["changed"]:
        fail(f"planning changed {changes['rt-plan-memory']}, expected attributes alone")
    return report


def check_browser(browser, page, folder, screenshot):
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile", "--virtual-time-budget=2000"]
    done = subprocess.run([browser, *flags, "--enable-logging=stderr", "--dump-dom", page.as_uri()], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=120)
    for line in done.stderr.splitlines():
        if "CONSOLE" in line and ("Error" in line or "Uncaught" in line):
            fail(f"the script of the page fails: {line}")
    for id, pattern in (("layers", "<td[^>]*>layer_moe</td>"), ("memory", "<polygon"), ("roofline", "<circle"),
                        ("step", "<option>decode of 1 .*<option>prefill of 512"), ("steps", "<td[^>]*>lm_head</td>"), ("ir", "<summary>@layer_moe"), ("passes", "<li>"),
                        ("changes", "<td[^>]*>[^<]*.2 deepseek.latent_attention")):
        part = re.search(rf'id="{id}".*', done.stdout, re.DOTALL)
        if not part or not re.search(pattern, part[0].split("<h2", 1)[0]):
            fail(f"the browser shows no {pattern} in {id}")
    if screenshot:
        subprocess.run([browser, *flags, "--window-size=1200,3400", f"--screenshot={screenshot}", page.as_uri()], stdin=subprocess.DEVNULL,
                       capture_output=True, timeout=120, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hadalc", required=True, type=Path)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--screenshot", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hadal-") as folder:
        page = Path(folder) / "report.html"
        subprocess.run([args.hadalc, args.model, "--weights=none", f"--report={page}", f"--machine={MACHINE}"], check=True)
        report = check_text(page.read_text())
        if report["name"] != "abyss_tiny":
            fail(f"the report is of {report['name']}")
        browser = shutil.which("chromium") or shutil.which("google-chrome")
        if browser:
            check_browser(browser, page, folder, args.screenshot and args.screenshot.resolve())
        print(f"{page.stat().st_size} bytes, {'in ' + os.path.basename(browser) if browser else 'no browser'}")


if __name__ == "__main__":
    main()
