# SPDX-License-Identifier: Apache-2.0
"""The controller and ebbctl on the host, and the agents' daemons in the guests."""
import ctypes
import json
import os
import signal
import subprocess
import time

from demo_machines import AGENT_PORT

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))


class Refused(Exception):
    """ebbctl said no."""


class DaemonEnded(Exception):
    """A daemon that had to serve."""


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Control:
    """Everything goes through ebbd and ebbctl as an operator would use them."""

    def __init__(self, lab, machines):
        self.lab, self.machines = lab, machines
        self.folder = os.path.join(lab.folder, "controller")
        self.socket = os.path.join(lab.sockets, "ctl.sock")
        self.process = None
        self.daemons = {}

    def start(self):
        build = self.machines.build
        os.makedirs(self.folder)
        subprocess.run([os.path.join(build, "ebbd"), "ca-init", "--name", "demo", "--folder",
                        self.folder], check=True)
        config = {"name": "controller", "folder": self.folder,
                  "state": os.path.join(self.folder, "state"), "roles": ["controller"],
                  "serve": {"address": "127.0.0.1", "port": self.machines.controller_port,
                            "socket": self.socket}}
        provider = self.machines.provider()
        if provider:
            config["serve"]["qemu"] = provider
        path = os.path.join(self.folder, "ebbd.json")
        with open(path, "w") as out:
            json.dump(config, out, indent=1)
        log = open(os.path.join(self.lab.folder, "controller.log"), "ab")
        self.process = subprocess.Popen([os.path.join(build, "ebbd"), "--config", path],
                                        stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        preexec_fn=_die_with_parent)
        log.close()
        self._until("the controller listens", lambda: os.path.exists(self.socket))

    def join(self, vm, name, site, role, ebbd, folder="/etc/ebb", more=None):
        """`more`: of the daemon's configuration."""
        token = self.ctl("token", "create", "--machine", name, "--site", site)["token"]
        vm.run(f"{ebbd} join --controller 10.0.2.100:{AGENT_PORT} --token {token} --name {name} "
               f"--role {role} --folder {folder}")
        words = json.dumps(more or {})[1:-1]
        if words:
            # Down to its disk, as an editor would: its power may be cut at any time from here on.
            vm.run(f"sed -i '1s|^{{|{{{words},|' {folder}/ebbd.json && sync {folder}/ebbd.json {folder}")
        self.daemons[vm.name] = (name, f"exec {ebbd} --config {folder}/ebbd.json >>/run/ebbd.log 2>&1")
        self.serve(vm)

    def serve(self, vm):
        """Starts the daemon of a machine that has joined."""
        name, command = self.daemons[vm.name]
        before = self._incarnation(name)
        daemon = vm.spawn(command)

        def registered():
            if not daemon.running():
                raise DaemonEnded(f"{name}: its daemon has ended ({daemon.status}); its log ends with\n"
                                  + self._log(vm))
            return self._incarnation(name) != before

        try:
            self._until(f"{name} registers", registered)
        except Refused as error:
            raise Refused(f"{error}; the daemon's log ends with\n{self._log(vm)}") from None

    @staticmethod
    def _log(vm):
        return vm.run("tail -n 20 /run/ebbd.log", check=False).output

    def _incarnation(self, name):
        """Of its daemon: another one after each start."""
        return self.machine(name).get("status", {}).get("incarnation")

    def ctl(self, *words):
        """ebbctl --json: its value; Refused with its words."""
        done = subprocess.run([os.path.join(self.machines.build, "ebbctl"), "--socket", self.socket,
                               "--json", *words], stdout=subprocess.PIPE, text=True)
        lines = done.stdout.strip().splitlines()
        value = json.loads(lines[-1]) if lines else {}
        if done.returncode != 0:
            raise Refused(f"ebbctl {' '.join(words)}: {value.get('error', value)}")
        return value

    def job(self, *words):
        return self.ctl(*words, "--wait")

    def state(self):
        return self.ctl()

    def machine(self, name):
        return next((m for m in self.state()["machines"] if m["name"] == name), {})

    def protection(self, machine):
        return next(p for p in self.state()["protections"] if p["machine"] == machine)

    def _until(self, what, condition, seconds=60):
        end = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except Refused:
                pass
            if time.monotonic() > end:
                raise Refused(f"{what}: not within {seconds} s")
            time.sleep(0.2)
