"""One run: processes start and end, ours are killed, and every result is compared."""

from collections import Counter
from dataclasses import dataclass, field
import json
from pathlib import Path
import random
import signal
import statistics
import threading
import time

import httpx

from .. import procs
from ..survival import age, kill
from .compare import Circumstances, Verdict, judge
from .instance import PATIENCE, Ended, Instance, Reaper
from .plans import Plan

KINDS = ("worker", "keeper", "upgrade", "both")
# A worker that dies younger than this is started again after a pause, as is documented.
SETTLED = 1.0
# Time between an end and its entry in the journal, within which a kill of both may lose it.
EDGE = 1.0


@dataclass
class Figures:
    """Statistics of a run."""

    processes: int = 0
    kills: Counter = field(default_factory=Counter)
    bytes: int = 0
    captures: Counter = field(default_factory=Counter)
    ends: Counter = field(default_factory=Counter)
    # Problems by process: what and why.
    lost: dict = field(default_factory=dict)
    cut: dict = field(default_factory=dict)
    broken: dict = field(default_factory=dict)
    wrong: dict = field(default_factory=dict)
    # Seconds from a death to the next answer: of a worker of a second or more, and of a younger one.
    answers: list = field(default_factory=list)
    answers_young: list = field(default_factory=list)
    seconds: float = 0.0

    @property
    def good(self):
        """Whether nothing was lost that could be known."""
        return self.processes > 0 and not (self.wrong or self.unexpected(self.lost) or self.unexpected(self.broken))

    @staticmethod
    def unexpected(problems):
        """Problems other than those that a death of keeper and worker explains."""
        return {name: text for name, text in problems.items() if not text.startswith("expected: ")}

    def last_line(self):
        """The whole run in one line."""
        kills = ", ".join(f"{kind} {n}" for kind, n in sorted(self.kills.items(), key=lambda item: -item[1]))
        found = []
        for name, problems in (("lost", self.lost), ("broken pipes", self.broken)):
            explained = len(problems) - len(self.unexpected(problems))
            found.append(f"{len(problems)} {name}" + (f" ({explained} as expected)" if explained else ""))
        if self.cut:
            found.append(f"{len(self.cut)} starts cut off unanswered")
        return (
            f"{self.processes} processes, {self.kills.total()} kills ({kills}), {', '.join(found)}, "
            f"{len(self.wrong)} wrong; answers again {times(self.answers)}"
        )


def times(values):
    """Median and maximum."""
    return f"median {statistics.median(values):.3f} most {max(values):.3f} s" if values else "not measured"


class Loop:
    """Runs it: `kinds` of kills, `kills` of them, at most for `seconds`."""

    def __init__(self, directory, *, kinds, kills, per_second, seed, longest, seconds=None, say=print):
        self.dir = Path(directory)
        self.kinds, self.kills, self.per_second, self.seed, self.seconds, self.say = kinds, kills, per_second, seed, seconds, say
        self.longest = longest
        self.rng = random.Random(seed)
        self.figures = Figures()
        self.instance = Instance(self.dir)
        self.reaper = Reaper(self.instance, seed)
        self.events = open(self.dir / "events", "a")
        # Plans by ID with the time of their first request, until they are judged.
        self.open = {}
        # IDs whose request to start was answered.
        self.answered = set()
        self.done_starting = threading.Event()
        # Times (begin, end) of a keeper's death, and of times when nobody lived.
        self.keeper_deaths = []
        self.gaps = []

    def run(self):
        """Runs it and returns the statistics."""
        began = time.monotonic()
        self.instance.start()
        with self.reaper:
            threads = [threading.Thread(target=self._safely, args=(part,), daemon=True) for part in (self._start, self._disturb)]
            try:
                for thread in threads:
                    thread.start()
                self._safely(self._judge_all)
                for thread in threads:
                    thread.join()
                self._safely(self._end)
            finally:
                self._clean_up()
        self.figures.seconds = time.monotonic() - began
        return self.figures

    def _safely(self, part):
        """An error of the run itself is a problem, too, and the other parts go on."""
        try:
            part()
        except Exception as error:  # noqa: BLE001
            self._wrong(part.__name__, f"{type(error).__name__}: {error}")
            if part == self._disturb:
                self.done_starting.set()

    def _note(self, text):
        self.events.write(f"{time.time():.3f} {text}\n")
        self.events.flush()

    def _wrong(self, name, text):
        self.figures.wrong[name] = "; ".join(filter(None, (self.figures.wrong.get(name), text)))
        self._note(f"{name}: WRONG {text}")
        self.say(f"  {name}: wrong: {text}")

    # -- starts

    def _start(self):
        number = 0
        due = time.monotonic()
        while not self.done_starting.is_set():
            plans = []
            for _ in range(self.rng.randint(1, max(1, self.per_second // 2))):
                plans.append(Plan(self.dir, number, self.seed, self.longest))
                number += 1
            for plan in plans:
                self.open[plan.id] = (plan, time.time())
            self._post(plans)
            self.figures.processes = number
            due += len(plans) / self.per_second
            self.done_starting.wait(max(0, due - time.monotonic()))

    def _post(self, plans):
        """Starts processes, whose request may be lost with its worker or answered by none."""
        end = time.monotonic() + PATIENCE
        while plans and time.monotonic() < end:
            try:
                with self.instance.client() as client:
                    rsp = client.post("/procs", json={"specs": {plan.id: plan.spec for plan in plans}}, timeout=10)
                    if rsp.status_code == 200:
                        self.answered.update(plan.id for plan in plans)
                        return
                    if rsp.status_code == 409:
                        # An earlier attempt started some, perhaps all.
                        plans = [plan for plan in plans if not self._is_known(client, plan)]
                        continue
                    if rsp.status_code < 500:
                        return self._wrong(plans[0].id, f"start refused: {rsp.status_code} {rsp.text[:300]}")
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        for plan in plans:
            self._wrong(plan.id, f"no answer to its start within {PATIENCE} s")

    @staticmethod
    def _is_known(client, plan):
        return client.get(f"/procs/{plan.id}", params={"output": "none"}).status_code == 200

    # -- deaths

    def _disturb(self):
        end = None if self.seconds is None else time.monotonic() + self.seconds
        todo = [self.kinds[n % len(self.kinds)] for n in range(self.kills)]
        self.rng.shuffle(todo)
        reported = time.monotonic()
        for kind in todo:
            if end is not None and time.monotonic() > end:
                break
            # Sometimes at once, after the next answer.
            time.sleep(self.rng.choice((0, self.rng.uniform(0, 0.3), self.rng.uniform(0, 2))))
            try:
                getattr(self, f"_{kind}")()
            except Ended as error:
                self._wrong(f"{kind} {self.figures.kills.total()}", str(error))
                if self.instance.keeper() is None:
                    with self.reaper.lock:
                        self._restart(time.time())
            self.figures.kills[kind] += 1
            if time.monotonic() > reported + 10:
                reported = time.monotonic()
                self.say(f"  {self._progress()}")
        self.done_starting.set()

    def _progress(self):
        figures = self.figures
        return (
            f"{figures.processes} processes, {figures.kills.total()} of {self.kills} kills, {len(figures.lost)} lost, "
            f"{len(figures.broken)} broken pipes, {len(figures.wrong)} wrong, {len(self.open)} not yet judged"
        )

    def _worker(self):
        before = self.instance.pair()
        self._die("worker", before, before[1], signal.SIGKILL)

    def _keeper(self):
        before = self.instance.pair()
        began = time.time()
        self._die("keeper", before, before[0], signal.SIGKILL)
        self.keeper_deaths.append((began, time.time()))

    def _upgrade(self):
        before = self.instance.pair()
        self._note(f"upgrade of {before}")
        kill(before[0], signal.SIGHUP)
        # The old worker answers while the new program is checked: there is no time to measure.
        self.instance.answers_again(before, time.monotonic())

    def _die(self, kind, before, pid, signum):
        old = age(before[1])
        self._note(f"{kind} {pid} of {before} dies, worker {old:.2f} s old")
        began = time.monotonic()
        kill(pid, signum)
        seconds = self.instance.answers_again(before, began)
        (self.figures.answers if old >= SETTLED else self.figures.answers_young).append(seconds)
        self._note(f"answers again after {seconds:.3f} s")

    def _both(self):
        with self.reaper.lock:
            began = time.time()
            self._note(f"both of {self.instance.pair()} die")
            self.instance.kill_both()
            time.sleep(self.rng.choice((0, self.rng.uniform(0, 0.5), self.rng.uniform(0, 2))))
            if self.rng.random() < 0.5:
                # Who ends from here on is a zombie for the next keeper.
                self.reaper.reap_all()
                time.sleep(self.rng.choice((0, 0.2)))
            self._restart(began)

    def _restart(self, began):
        self.figures.answers.append(self.instance.start())
        now = time.time()
        self.keeper_deaths.append((began, now))
        self.gaps.append((began, now))

    # -- results

    def _judge_all(self):
        ended = None
        while self.open or not self.done_starting.is_set():
            found = self._ended()
            for proc_id in found:
                if proc_id in self.open:
                    self._judge(proc_id)
            if not self.done_starting.is_set():
                ended = None
            elif found or ended is None:
                ended = time.monotonic()
            elif time.monotonic() > ended + PATIENCE:
                break
            time.sleep(0.1)
        for proc_id in list(self.open):
            plan, _ = self.open.pop(proc_id)
            known = self._get(f"/procs/{proc_id}")
            state = known.json()["data"]["procs"][proc_id]["state"] if known.status_code == 200 else "unknown to the instance"
            self._wrong(proc_id, f"{state} {PATIENCE} s after the others, started by {plan.runs()}, record {plan.record() is not None}")

    def _get(self, path, **params):
        """A response of whichever worker lives."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                with self.instance.client() as client:
                    return client.get(path, params=params, timeout=20)
            except httpx.TransportError:
                assert time.monotonic() < end, f"no answer to {path} within {PATIENCE} s"
                time.sleep(0.02)

    def _ended(self):
        rsp = self._get("/procs", state="terminated,error", output="none", limit=200)
        assert rsp.status_code == 200, rsp.text
        return list(rsp.json()["data"]["procs"])

    def _judge(self, proc_id):
        plan, posted = self.open[proc_id]
        rsp = self._get(f"/procs/{proc_id}", output="inline")
        if rsp.status_code != 200:
            self.open.pop(proc_id)
            return self._wrong(proc_id, f"listed as ended, then {rsp.status_code} {rsp.text[:200]}")
        result = rsp.json()["data"]["procs"][proc_id]
        outputs = {}
        for name in plan.streams:
            rsp = self._get(f"/procs/{proc_id}/output/{name}/data")
            outputs[name] = rsp.content if rsp.status_code == 200 else None
        now = time.time()
        dead = [any(posted < end and begin < now for begin, end in times) for times in (self.keeper_deaths, self.gaps)]
        try:
            verdict = judge(plan, result, outputs, Circumstances(proc_id in self.answered, *dead))
        except Exception as error:  # noqa: BLE001
            verdict = Verdict(wrong=[f"cannot be judged: {type(error).__name__}: {error}"])
        self._count(plan, outputs)
        self._report(plan, result, verdict, gap=dead[1])
        self.open.pop(proc_id)
        self._delete(proc_id)
        if not verdict.is_notable:
            plan.remove()

    def _count(self, plan, outputs):
        self.figures.bytes += sum(len(data or b"") for data in outputs.values())
        self.figures.ends[plan.end[0]] += 1
        self.figures.captures.update(stream.capture for stream in plan.streams.values())

    def _report(self, plan, result, verdict, gap):
        if verdict.is_notable:
            (self.dir / f"{plan.id}.result").write_text(json.dumps(result))
        for text in verdict.wrong:
            self._wrong(plan.id, text)
        if verdict.broken:
            self._tell(self.figures.broken, "broken pipe", plan, result, verdict.broken, gap)
        if verdict.cut:
            self.figures.cut[plan.id] = verdict.cut[0]
            self._note(f"{plan.id}: cut off: {verdict.cut[0]} ({result['times']})")
        elif verdict.lost:
            self._tell(self.figures.lost, "lost", plan, result, verdict.lost, self._was_reaped_unseen(plan) or self._ended_at_edge(plan))
        elif gap and self._was_reaped_unseen(plan, certainly=True):
            self._wrong(plan.id, "has an exit status, although it ended and was reaped while nobody lived")

    def _tell(self, problems, what, plan, result, texts, expected):
        problems[plan.id] = ("expected: " if expected else "") + "; ".join(texts)
        self._note(f"{plan.id}: {what}: {problems[plan.id]} (pid {result['pid']}, {result['times']})")
        if not expected:
            self.say(f"  {plan.id}: {what}: {problems[plan.id]}")

    def _was_reaped_unseen(self, plan, certainly=False):
        """Whether the process was reaped while nobody lived; `certainly`: and ended then, too."""
        pids, record = plan.runs(), plan.record()
        reaped = self.reaper.in_gaps.get(pids[0]) if pids else None
        if reaped is None or not certainly:
            return reaped is not None
        return record is not None and any(begin + EDGE < record.when < reaped < end for begin, end in self.gaps)

    def _ended_at_edge(self, plan):
        """Whether the process ended just before keeper and worker: the keeper may have reaped it
        without an entry in the journal."""
        record = plan.record()
        return record is not None and any(begin - EDGE < record.when < end for begin, end in self.gaps)

    def _delete(self, proc_id):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                with self.instance.client() as client:
                    rsp = client.delete(f"/procs/{proc_id}", timeout=10)
                # An earlier request may have deleted it.
                if rsp.status_code in (200, 404):
                    return
                return self._wrong(proc_id, f"deletion: {rsp.status_code} {rsp.text[:200]}")
            except httpx.TransportError:
                time.sleep(0.02)
        self._wrong(proc_id, f"not deleted within {PATIENCE} s")

    # -- the end

    def _end(self):
        rsp = self._get("/procs", output="none")
        left = list(rsp.json()["data"]["procs"])
        for proc_id in left:
            # Its deletion was answered.
            self._wrong(proc_id, "is known after its deletion")
        for text in self.instance.end():
            self._wrong("end", text)

    def _clean_up(self):
        self.done_starting.set()
        self.instance.destroy()
        for plan, _ in self.open.values():
            for pid in plan.runs():
                if pid in procs.descendants():
                    kill(pid, signal.SIGKILL)
        self.events.close()
