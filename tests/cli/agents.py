# SPDX-License-Identifier: Apache-2.0
"""Agents that say what a test wants: real certificates and a real connection, no disks behind them."""
import http.client
import json
import os
import ssl
import threading
import time
import uuid

from control import PATIENCE

GIB = 1 << 30


class Refusal(Exception):
    """An agent's answer to a command."""

    def __init__(self, code, message="as the test wants it"):
        super().__init__(code)
        self.error = {"code": code, "message": message, "remedy": "none is needed"}


class Later(Exception):
    """A command's answer comes when something else has happened: Agent.answer_later()."""


class Connection:
    """Exchanges over TLS with the certificate of a folder that `ebbd join` made."""

    def __init__(self, site, folder):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.context.load_verify_locations(os.path.join(folder, "ca.pem"))
        self.context.load_cert_chain(os.path.join(folder, "machine.pem"),
                                     os.path.join(folder, "machine.key"))
        self.port, self.http = site.port, None

    def post(self, body, path="/agent/v1/exchange"):
        """(status, answer)"""
        if self.http is None:
            self.http = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE,
                                                    context=self.context)
        try:
            self.http.request("POST", path, json.dumps(body))
            answer = self.http.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def close(self):
        if self.http is not None:
            self.http.close()
        self.http = None


class Agent:
    """Exchanges until it is stopped. Commands of a kind in `held` wait for release(); "source.cut/open"
    is that kind with that step, also in `refusals`."""

    roles = ()

    def __init__(self, site, name, folder=None):
        self.site, self.name = site, name
        self.folder = folder or site.join(name, *self.roles)
        self.incarnation = str(uuid.uuid4())
        self.lock = threading.Condition()
        self.results, self.seen, self.commands = [], set(), []
        self.held, self.waiting, self.refusals, self.later = set(), [], {}, []
        self.protections = {}
        self.exchanges, self.answer, self.refused = 0, None, None
        self.stopping = False
        self.thread = threading.Thread(target=self._work, daemon=True)

    def start(self):
        self.thread.start()
        self.until(lambda: self.exchanges > 0 or self.refused)
        return self

    def stop(self):
        with self.lock:
            self.stopping = True
            self.lock.notify_all()
        self.thread.join(PATIENCE)

    def until(self, condition):
        """Until something that this agent sees is so."""
        with self.lock:
            if not self.lock.wait_for(condition, PATIENCE):
                raise AssertionError(f"{self.name}: it has not come to that")

    def told(self):
        """Until the controller knows how things stand now."""
        with self.lock:
            count = self.exchanges + 2  # one may be under way
        self.until(lambda: self.exchanges >= count)

    def asked(self, kind):
        """Until a command of the kind has come; its arguments."""
        self.until(lambda: any(k == kind for k, _ in self.commands))
        return next(args for k, args in reversed(self.commands) if k == kind)

    def release(self):
        with self.lock:
            self.held.clear()
            waiting, self.waiting = self.waiting, []
            for command in waiting:
                self._answer(command)

    def answer_later(self, command, value):
        """One that was for later, with the lock."""
        self.later.remove(command)
        self.results.append({"id": command["id"], "ok": True, "value": value})

    @staticmethod
    def kinds(command):
        step = command["args"].get("step")
        return {command["kind"]} | ({f"{command['kind']}/{step}"} if step else set())

    def status(self):
        """Its part of the exchange, with the lock."""
        raise NotImplementedError

    def run(self, kind, args):
        """A command's value, with the lock."""
        raise NotImplementedError

    def _work(self):
        connection = Connection(self.site, self.folder)
        while True:
            with self.lock:
                if self.stopping:
                    break
                body = {"protocol": 1, "version": "test", "incarnation": self.incarnation,
                        "machine": {"name": self.name, "os": "Test", "kernel": "6.1"},
                        "roles": list(self.roles), "results": list(self.results), **self.status()}
                # What is changed from here on is not in it.
                body = json.loads(json.dumps(body))
            try:
                status, answer = connection.post(body)
            except (OSError, http.client.HTTPException, ValueError):
                with self.lock:  # the controller is away
                    self.lock.wait(0.1)
                continue
            self._take(status, answer, body)
        connection.close()

    def _take(self, status, answer, body):
        with self.lock:
            if status != 200:
                self.refused = answer["error"]["code"]
                self.lock.notify_all()
                self.lock.wait(0.1)
                return
            self.answer, self.refused = answer, None
            sent = {result["id"] for result in body["results"]}
            self.results = [r for r in self.results if r["id"] not in sent]
            for command in answer["commands"]:
                if command["id"] in self.seen:
                    continue
                self.seen.add(command["id"])
                self.commands.append((command["kind"], command["args"]))
                if self.kinds(command) & self.held:
                    self.waiting.append(command)
                else:
                    self._answer(command)
            self.exchanges += 1
            self.lock.notify_all()

    def _answer(self, command):
        result = {"id": command["id"], "ok": True}
        try:
            for kind in self.kinds(command) & set(self.refusals):
                raise Refusal(self.refusals[kind])
            result["value"] = self.run(command["kind"], command["args"]) or {}
        except Later:
            self.later.append(command)
            return
        except Refusal as refusal:
            result["ok"], result["error"] = False, refusal.error
        self.results.append(result)


def disk(number, size=GIB, **more):
    return {"stable_id": f"naa.5000c29{number:09d}", "name": f"sd{chr(96 + number)}", "size": size,
            "controller": "sym53c8xx", **more}


class Source(Agent):
    """A machine with two disks. The sync stands still until finish_sync()."""

    roles = ("source",)

    def __init__(self, site, name="shop", **more):
        super().__init__(site, name, **more)
        self.module = {"loaded": True, "version": "1"}
        self.disks = [disk(1, trackable=True, system=True), disk(2, trackable=True)]
        self.target = None  # that finish_sync() and checkpoints give points to
        self.on_shutdown = None
        self.at_once = False  # says that it replicates as soon as it is asked to begin
        self.epoch = 0
        self.degraded = self.post = None  # what becomes of an application-consistent point
        self.clock_ahead_ns = 0
        self.expiring = 0  # so many gates open by themselves before they are opened
        self.alone = None  # why a point is not of a common cut after all

    def status(self):
        return {"source": {"clock_ns": time.time_ns() + self.clock_ahead_ns, "module": self.module,
                           "disks": self.disks,
                           "protections": list(self.protections.values())}}

    def run(self, kind, args):
        if kind == "source.protect":  # once more is no error, and changes nothing
            self.protections.setdefault(args["protection"], {
                "id": args["protection"], "state": "initial-sync", "bytes_total": 2 * GIB,
                "bytes_done": 0, "rate_bytes_per_s": 0})
            if self.at_once:
                self.protections[args["protection"]]["state"] = "replicating"
        elif kind == "source.stop":
            self.protections.pop(args["protection"], None)
        elif kind == "source.verify":
            self.protections[args["protection"]]["verify"] = {
                "run": args["run"], "total": 2 * GIB, "done": 0}
        elif kind == "source.checkpoint":
            if args.get("common"):
                raise Later
            return self.checkpoint(args)
        elif kind == "source.cut":
            self.cut(args)
        elif kind == "source.shutdown" and self.on_shutdown:
            self.on_shutdown()
        return {}

    def verified(self, **result):
        """The verification that was asked for last has come to its end."""
        args = self.asked("source.verify")
        with self.lock:
            self.protections[args["protection"]]["verify"] = {
                "run": args["run"], "total": 2 * GIB, "done": 2 * GIB,
                "result": {"first_epoch": 1, "last_epoch": 2, "cut_time_ns": 5,
                           "equal_bytes": 2 * GIB, "different_bytes": 0, **result}}

    def cut(self, args):
        """Steps of a common cut; the checkpoint is answered when it is over."""
        led = [c for c in self.later if c["args"]["common"]["cut"] == args["cut"]]
        if not led:
            raise Refusal("E_NOT_FOUND", "no such cut goes on")
        if args["step"] not in ("open", "leave"):
            return
        alone, expires = self.alone, args["step"] == "open" and self.expiring > 0
        if args["step"] == "leave":
            alone = refused("E_CANCELLED", "it was told to leave")
        elif expires:
            self.expiring -= 1
            alone = refused("E_STALE", "the gate opened by itself", "")
        self.answer_later(led[0], {**self.checkpoint(led[0]["args"]), "alone": alone})
        if expires:
            raise Refusal("E_STALE", alone["message"])

    def steps(self):
        """Of source.cut, in their order."""
        with self.lock:
            return [args["step"] for kind, args in self.commands if kind == "source.cut"]

    def checkpoint(self, args):
        kind = "app" if args.get("app") and not self.degraded else "crash"
        value = self.point(args["protection"], args.get("name", ""), kind)
        if args.get("app"):
            value.update(kind=kind, degraded=self.degraded, post=self.post)
        return value

    def point(self, protection, name="", kind="crash"):
        self.epoch += 1
        point = {"epoch": self.epoch, "cut_time_ns": time.time_ns() + self.clock_ahead_ns,
                 "name": name, "kind": kind}
        with self.target.lock:
            self.target.points.setdefault(protection, []).append(point)
        return {"epoch": point["epoch"], "cut_time_ns": point["cut_time_ns"]}

    def sync(self, done, rate=64 << 20):
        """Progress of the only protection."""
        with self.lock:
            for status in self.protections.values():
                status.update(bytes_done=done, rate_bytes_per_s=rate)

    def finish_sync(self):
        self.until(lambda: any(p["state"] == "initial-sync" for p in self.protections.values()))
        with self.lock:
            for ident, status in self.protections.items():
                status.update(state="replicating", bytes_done=status["bytes_total"])
                self.point(ident)


class Target(Agent):
    """A master target with three empty disks and a retention volume."""

    roles = ("target",)

    def __init__(self, site, name="vault", **more):
        super().__init__(site, name, **more)
        self.volumes = [{"path": "/mnt/retention", "device": "/dev/sdz1", "fs": "xfs",
                         "size": 100 * GIB, "available": 90 * GIB, "usable": True}]
        self.disks = [disk(n, usable=True, pci="1000:0012") for n in (11, 12, 13)]
        self.reasons = []
        self.points = {}
        self.served = {}  # by protection: {name: epoch}
        self.serving = {}  # by name: the id
        self.given_up = {}  # by that: why
        self.export = None  # gives the URI of an export; none: of one that nobody serves
        self.different = 0  # bytes, found by target.certify

    def status(self):
        taken = {d: p["id"] for p in self.protections.values() for d in p["of"]}
        disks = [dict(d, in_use_by=taken.get(d["stable_id"], "")) for d in self.disks]
        return {"target": {"volumes": self.volumes, "disks": disks, "retention_age_s": 86400,
                           "data_address": {"host": "127.0.0.1", "port": 9443},
                           "protections": [self._one(p) for p in self.protections.values()]}}

    def _one(self, protection):
        points = self.points.get(protection["id"], [])
        out = {k: v for k, v in protection.items() if k != "of"}
        out.update(points=len(points), retention_bytes=123, rollback_bytes=4096)
        if points:
            out.update(newest_point=points[-1], oldest_point_ns=points[0]["cut_time_ns"],
                       oldest_epoch=points[0]["epoch"])
        out["served"] = [self._served(n, e) for n, e in
                         self.served.get(protection["id"], {}).items()]
        app = [p for p in points if p["kind"] == "app"]
        if app:
            out.update(newest_app_point=app[-1])
        return out

    def _served(self, name, epoch):
        return {"name": name, "epoch": epoch, "serving": self.serving[name], "clients": 0,
                "error": self.given_up.get(self.serving[name])}

    def _serve(self, ident, args):
        found = [p for p in self.points[ident] if str(p["epoch"]) == args["point"]]
        if not found:
            raise Refusal("E_NO_POINT")
        self.served.setdefault(ident, {})[args["name"]] = found[0]["epoch"]
        self.serving[args["name"]] = str(uuid.uuid4())
        exports = [{"index": i, "source_id": disk(i + 1)["stable_id"], "target_id": d,
                    "size": GIB, "uri": self.export(i) if self.export else
                    f"nbd+unix:///shop/{args['name']}/{i}?socket=/nowhere"}
                   for i, d in enumerate(self.protections[ident]["of"])]
        return {"point": found[0], "serving": self.serving[args["name"]], "exports": exports}

    def _unserve(self, ident, args):
        there = self.served.get(ident, {})
        for name in list(there):
            if name == args.get("name") or (not args.get("name") and name != args.get("keep")):
                del there[name]

    def run(self, kind, args):
        ident = args.get("protection")
        if kind == "target.check":
            return {"reasons": self.reasons}
        if kind == "target.prepare":
            self.protections[ident] = {"id": ident, "state": "receiving",
                                       "retention": args["retention"],
                                       "of": [d["target_id"] for d in args["disks"]]}
        elif kind == "target.points":
            return {"points": self.points.get(ident, [])}
        elif kind == "target.failover":
            self.protections[ident]["state"] = "failed-over"
            points = self.points[ident]
            if args.get("point", "latest") != "latest":
                points = [p for p in points if str(p["epoch"]) == args["point"]]
            return {"point": points[-1], "rolled_back_bytes": 4096}
        elif kind == "target.resume":
            self.protections[ident]["state"] = "receiving"
        elif kind == "target.verify":
            return {"points": len(self.points[ident]), "files": 1, "records": 4, "bytes": 4096}
        elif kind == "target.name":
            point = next((p for p in self.points[ident] if p["epoch"] == args["epoch"]), None)
            if point is None:
                raise Refusal("E_NO_POINT")
            point["name"] = args["name"]
            return {"point": point}
        elif kind == "target.common":
            point = next((p for p in self.points[ident] if p["epoch"] == args["epoch"]), None)
            if point is None:
                raise Refusal("E_NO_POINT")
            point["common"] = {"cut": args["cut"], "time_ns": args["time_ns"]}
            return {"point": point}
        elif kind == "target.serve":
            return self._serve(ident, args)
        elif kind == "target.served":
            if args["name"] not in self.served.get(ident, {}):
                raise Refusal("E_POINT_NOT_SERVED")
            return self._served(args["name"], self.served[ident][args["name"]])
        elif kind == "target.unserve":
            self._unserve(ident, args)
        elif kind == "target.certify":
            point = next(p for p in self.points[ident] if p["epoch"] == args["epoch"])
            return {"point": point, "chain": "ab" * 32, "merged": False, "extents": 3,
                    "journal": {"points": 1, "files": 1, "records": 4, "bytes": 4096},
                    "bytes": 8192, "equal_bytes": 8192, "journal_bytes": 4096,
                    "superseded_bytes": 0, "whole": args["whole"], "disk_bytes": 2 * GIB,
                    "discarded_bytes": 0, "unreadable_bytes": 0,
                    "different_bytes": self.different, "undigested_bytes": 0}
        elif kind in ("target.commit", "target.disable"):
            self.protections.pop(ident, None)
            self.points.pop(ident, None)
        return {}


def refused(code, message, remedy="Do something else"):
    return {"code": code, "message": message, "remedy": remedy}
