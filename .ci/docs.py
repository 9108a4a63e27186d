"""
Checks links and anchors of README, docs/ and examples/, and runs their command blocks.

- ```console: lines that begin with `$ ` are commands; the lines below a command are its output. A
  line `...` stands for any lines, `...` in a line for any text, and one or more blanks for any number
  of blanks. Without output lines, the output is not compared. `# exit N` at the end of a command is
  its exit status; the default is 0. A line `> ...` continues a command.
- ```sh: a script that must succeed as a whole.
- `,norun` after the language: the block is not run, because it needs another host, root's files, or
  a person. As in other blocks, each option of procstar must exist.

The blocks of one page run in one bash, in an empty directory. README's run in a copy of the examples.
"""

import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(os.environ["PROCSTAR"]).resolve()
MARK = "--docs-mark--"
SECONDS = 40
# A command after which an instance runs, if in the background.
STARTS_INSTANCE = re.compile(r"\bprocstar (serve|agent)\b")


def pages():
    return [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("examples/**/*.md"))]


# Links


def without_code(text):
    return re.sub(r"`[^`\n]*`", "``", re.sub(r"^\s*```.*?^\s*```", "", text, flags=re.S | re.M))


def anchors(page):
    text = re.sub(r"^\s*```.*?^\s*```", "", page.read_text(), flags=re.S | re.M)
    found = set(re.findall(r'<a id="([^"]+)"', text))
    for heading in re.findall(r"^#+ (.*)$", text, flags=re.M):
        heading = re.sub(r"\]\([^)]*\)", "", heading)
        found.add(re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-"))
    return found


def check_links():
    errors = []
    for page in pages():
        for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
            if re.match(r"https?:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists():
                errors.append(f"{page.relative_to(ROOT)}: no such file: {link}")
            elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                errors.append(f"{page.relative_to(ROOT)}: no such heading: {link}")
    summary = (ROOT / "docs/SUMMARY.md").read_text()
    for page in sorted(ROOT.glob("docs/**/*.md")):
        name = str(page.relative_to(ROOT / "docs"))
        if name != "SUMMARY.md" and f"({name})" not in summary:
            errors.append(f"docs/SUMMARY.md: no link to {name}")
    return errors


# The site


def complete_site(book):
    """Copies files that pages link to into the site, and checks the site's links. The site must be
    served at the root of a host."""
    for page in ROOT.glob("docs/**/*.md"):
        for link in re.findall(r"\]\(([^)#\s]+)", without_code(page.read_text())):
            target = (page.parent / link).resolve()
            if re.match(r"https?:", link) or target.is_relative_to(ROOT / "docs") or not target.is_file():
                continue
            copy = book / target.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if copy.suffix == ".md":
                copy.with_suffix(".html").write_text(f"<!doctype html><pre>{html.escape(target.read_text())}</pre>")
            else:
                shutil.copy(target, copy)
    # mdBook names README.md index.html, but does not change links to it.
    for index in book.glob("**/index.html"):
        shutil.copy(index, index.with_name("README.html"))
    errors = []
    for page in book.glob("**/*.html"):
        if page.name in ("print.html", "404.html", "toc.html"):
            continue
        for link in re.findall(r'(?:href|src)="([^"#?]+)', page.read_text()):
            if re.match(r"[a-z]+:", link):
                continue
            parts = []
            for part in [*page.parent.relative_to(book).parts, *link.split("/")]:
                if part == "..":
                    del parts[-1:]
                elif part != ".":
                    parts.append(part)
            if not book.joinpath(*parts).exists():
                errors.append(f"{page.relative_to(book)}: no such page of the site: {link}")
    return errors


# Options


def help_of(*words, known={}):
    if words not in known:
        run = subprocess.run([PROGRAM, *words, "--help"], capture_output=True, text=True)
        known[words] = run.stdout if run.returncode == 0 else None
    return known[words]


def check_options(where, command):
    """Returns an error for each option in a command that procstar does not have."""
    errors = []
    for part in re.split(r"[|;&\n]|\$\(", command.replace("\\\n", " ")):
        words = part.split()
        names = [n for n, word in enumerate(words) if word.rstrip("'\"").split("/")[-1] == "procstar"]
        if not names:
            continue
        words = words[names[0] + 1 :]
        if words[:1] and words[0].startswith("#"):
            continue
        subcommand = next((w for w in words if not w.startswith("-")), None)
        text = help_of(subcommand) if subcommand and re.fullmatch(r"[a-z-]+", subcommand) else None
        text = (text or "") + help_of()
        for word in words:
            if word == "--" or word.startswith("#"):
                break
            option = re.match(r"--[a-z][a-z-]+", word)
            if option and not re.search(re.escape(option[0]) + r"(?![a-z-])", text):
                errors.append(f"{where}: unknown option {option[0]}: {part.strip()}")
    return errors


# Commands


def blocks(page):
    """Yields (line, language, text) of each command block."""
    language = None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = re.match(r"(\s*)```(\S*)", line)
        if fence and language is None:
            language, start, lines, indent = fence[2], number, [], len(fence[1])
        elif fence:
            if language.split(",")[0] in ("console", "sh"):
                yield start, language, "\n".join(lines)
            language = None
        elif language is not None:
            lines.append(line[indent:] if line[:indent].isspace() else line)


def commands(text):
    """Yields (command, output, status) of a console block."""
    command, output, heredoc = None, [], None
    for line in text.splitlines():
        if heredoc:
            command += "\n" + line
            heredoc = None if line == heredoc else heredoc
        elif line.startswith("$ "):
            if command is not None:
                yield finish(command, output)
            command, output = line[2:], []
            found = re.search(r"<<'?(\w+)'?", line)
            heredoc = found[1] if found else None
        elif command is not None and command.count("'") % 2:
            command += "\n" + line
        else:
            output.append(line)
    if command is not None:
        yield finish(command, output)


def finish(command, output):
    status = re.search(r"\s# exit (\d+)$", command)
    return command, output, int(status[1]) if status else 0


def matches(expected, actual):
    pattern = ""
    for line in expected:
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            parts = [r"\s+".join(re.escape(w) for w in part.split(" ")) for part in re.split(r"\s*\.\.\.\s*", line)]
            pattern += r".*".join(parts) + r"\s*\n"
    pattern = re.sub(r"(\\s\+)+", lambda _: r"\s+", pattern)
    return re.fullmatch(pattern, actual + "\n" if actual and not actual.endswith("\n") else actual)


class Shell:
    def __init__(self, directory):
        environment = {
            "PATH": f"{PROGRAM.parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(directory / "home"),
            "TMPDIR": str(directory / "tmp"),
            "PROCSTAR_RUN_RUNTIME_DIR": str(directory / "runtime"),
            "LANG": "C.UTF-8",
        }
        for name in ("home", "tmp", "runtime", "work"):
            (directory / name).mkdir(mode=0o700)
        (directory / "work").chmod(0o755)
        directory.chmod(0o755)
        self.environment = environment
        self.output = directory / "output"
        self.output.touch()
        self.work = directory / "work"
        self.bash = subprocess.Popen(
            ["bash"], stdin=subprocess.PIPE, stdout=self.output.open("w"), stderr=subprocess.STDOUT,
            text=True, cwd=self.work, env=environment, start_new_session=True,
        )
        self.read = 0

    def run(self, script):
        """Runs a script in the shell; returns its output and exit status."""
        try:
            self.bash.stdin.write(f"{script}\necho \"{MARK}$?\"\n")
            self.bash.stdin.flush()
        except BrokenPipeError:
            return "", "none: the shell has ended"
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            text = self.output.read_text(errors="replace")[self.read :]
            found = re.search(rf"{MARK}(\d+)\n", text)
            if found:
                self.read += found.end()
                return text[: found.start()], int(found[1])
            if self.bash.poll() is not None:
                return text, self.bash.returncode
            time.sleep(0.02)
        return text, f"none within {SECONDS} s"

    def await_instance(self):
        """Waits until the last instance in the background answers and has opened all listeners.
        Returns the reason if it does not."""
        output, _ = self.run("echo $!")
        pid, reason = output.strip(), "does not answer"
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            command = [PROGRAM, "top", "--once", "-o", "json", "--pid", pid]
            status = subprocess.run(command, capture_output=True, text=True, env=self.environment)
            if status.returncode == 0:
                listeners = json.loads(status.stdout)["agent"]["listeners"]
                failed = [f"{at['address']}: {at['error']}" for at in listeners if at["error"]]
                if not failed:
                    return None
                reason = f"does not listen: {'; '.join(failed)}"
            elif not Path(f"/proc/{pid}").exists():
                return "has ended"
            else:
                reason = status.stderr.strip()
            time.sleep(0.05)
        return f"{reason} (within {SECONDS} s)"

    def end(self):
        """Ends the shell and its background processes."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.bash.pid, number)
            except ProcessLookupError:
                return
            time.sleep(0.5)
        self.bash.wait()


def checked(script):
    """Returns a script with the exit status of its last failing command, or 0. `set -e` would end the
    shell."""
    return f"failed=0; trap 'failed=$?' ERR\n{script}\ntrap - ERR; (exit $failed)"


def wanted(command):
    """Returns a missing program that the command needs, or `root`; None if nothing is missing."""
    needed = {"curl", "openssl", "python3"} & set(re.findall(r"[\w-]+", command))
    if "--user nobody" in command and os.geteuid() != 0:
        return "root"
    return next((name for name in needed if not shutil.which(name)), None)


def run_page(page, counts):
    name = page.relative_to(ROOT)
    errors, shell = [], None
    all_blocks = list(blocks(page))
    with tempfile.TemporaryDirectory(prefix="procstar-docs-") as directory:
        shell = Shell(Path(directory))
        if name == Path("README.md"):
            shutil.copytree(ROOT / "examples", shell.work / "examples")
        try:
            for line, language, text in all_blocks:
                where = f"{name}:{line}"
                parts = language.split(",")
                shown = text if parts[0] == "sh" else "\n".join(c for c, _, _ in commands(text))
                errors += check_options(where, shown)
                if "norun" in parts:
                    counts["not run"] += 1
                    continue
                counts["run"] += 1
                steps = commands(text) if parts[0] == "console" else [(checked(text), [], 0)]
                for command, expected, status in steps:
                    missing = wanted(command)
                    if missing:
                        print(f"{where}: not run: needs {missing}", file=sys.stderr)
                        continue
                    output, found = shell.run(command)
                    if command.rstrip().endswith("&"):
                        failure = shell.await_instance() if STARTS_INSTANCE.search(command) else None
                        if failure:
                            errors.append(f"{where}: the instance {failure}: {command}")
                        continue
                    if found != status:
                        errors.append(f"{where}: exit status {found}, not {status}: {command}\n{output}")
                    elif expected and not matches(expected, output):
                        wanted_text = "\n".join(expected)
                        errors.append(f"{where}: {command}\n--- documented\n{wanted_text}\n--- found\n{output}")
        finally:
            shell.end()
    return errors


def main():
    if sys.argv[1:2] == ["--site"]:
        errors = complete_site(ROOT / "target/book")
        print("\n".join(errors))
        sys.exit(bool(errors))
    chosen = [Path(p).resolve() for p in sys.argv[1:]]
    errors = [] if chosen else check_links()
    counts = {"run": 0, "not run": 0}
    for page in chosen or pages():
        errors += run_page(page, counts)
    for error in errors:
        print(error, file=sys.stderr)
    print(f"docs: {len(pages())} pages, {counts['run']} command blocks run, {counts['not run']} only read, {len(errors)} errors")
    sys.exit(bool(errors))


if __name__ == "__main__":
    main()
