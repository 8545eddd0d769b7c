# SPDX-License-Identifier: Apache-2.0
"""Figure F11: memory of the maps, when nothing is dirty and when a TiB is. By count."""
import json

from candidates import EBBTEST, build_module, release

TIB = 1 << 40
MIB = 1 << 20
# TiB, and whether with a write-intent log.
DISKS = ((1, False), (16, False), (1, True))


def map_bytes(vm, disk):
    return json.loads(vm.run(f"{EBBTEST} get {disk}").output)["disk"]["map_bytes"]


def reached(value, most):
    return f"{'reached' if value <= most else 'NOT reached'}, at most {most}"


def bench(lab, label, _options):
    module = build_module(label)
    vm = lab.vm(f"memory-{label}", kernel=label, smp=1, mem=1536, timeout=1200)
    vm.start(timeout=600)
    print(f"\n{label} ({release(vm)}), memory of the maps of a disk")
    vm.run("modprobe configfs; mount -t configfs configfs /sys/kernel/config; "
           f"modprobe null_blk nr_devices=1 gb=1 && insmod {module}")
    for number, (size, log) in enumerate(DISKS, 1):
        folder = f"/sys/kernel/config/nullb/d{number}"
        area = "/dev/nullb0 0 131072 create" if log else ""
        vm.run(f"mkdir {folder} && echo {size * TIB // MIB} >{folder}/size && echo 1 >{folder}/power && "
               f"{EBBTEST} attach /dev/d{number} d{number} 1 {area}")
        idle = map_bytes(vm, number)
        vm.run(f"{EBBTEST} mark {number} 0 {TIB // 512}")
        dirty = map_bytes(vm, number) - idle
        print(f"  {size:2} TiB{', log' if log else '':5}: idle {idle // 1024 // size} KiB per TiB "
              f"({reached(idle // 1024 // size, 1024)}); a TiB dirty in one map {dirty / MIB:.1f} MiB "
              f"more ({reached(dirty / MIB, 32)})", flush=True)
    for number in range(1, len(DISKS) + 1):
        vm.run(f"{EBBTEST} detach {number}")
    vm.run("rmmod ebb")
    vm.power_off()
