// SPDX-License-Identifier: Apache-2.0
// A plugin of QEMU: which cache lines of the kernel several CPUs use while writes are timed, and
// one of them writes to. What perf c2c shows by sampling, exactly, and whatever the CPUs' timing
// is: it does not ask whether two of them met at a line, but whether they could.
//
// For one host thread (-accel tcg,thread=single). Counts from the first mark of writes.cc until as
// many as writers=N says have come to their last, and writes to out=FILE, for each instruction that
// used such a line: its address, that of the line, loads, stores, and how many stores there were to
// the line at all.
//
// QEMU packages come without the header of plugins: what is used of it stands here.
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void (*on_translation)(qemu_plugin_id_t, struct qemu_plugin_tb*);
typedef void (*on_execution)(unsigned int, void*);
typedef void (*on_memory)(unsigned int, qemu_plugin_meminfo_t, uint64_t, void*);

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, on_translation);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb*);
struct qemu_plugin_insn* qemu_plugin_tb_get_insn(const struct qemu_plugin_tb*, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn*);
const void* qemu_plugin_insn_data(const struct qemu_plugin_insn*);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn*);
_Bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn*, on_execution, int no_regs,
                                            void*);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn*, on_memory, int no_regs, int rw,
                                      void*);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;
__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t, const void*, int,
                                                               char**);

enum { kLineShift = 6, kReadsAndWrites = 3, kUseBits = 22, kLineBits = 20 };

// An instruction and a line that it used.
struct use {
    uint64_t instruction, line;
    uint32_t loads, stores;
};
struct line {
    uint64_t line, stores;
    uint32_t cpus;
};
static struct use* uses;
static struct line* lines;
static const char* path;
static int running, ended, writers;

static uint64_t mix(uint64_t a, unsigned int bits) {
    return (a * 0x9e3779b97f4a7c15U) >> (64 - bits);
}

static struct line* line_of(uint64_t number) {
    uint64_t i = mix(number, kLineBits);
    while (lines[i].line && lines[i].line != number) i = (i + 1) % (1U << kLineBits);
    lines[i].line = number;
    return &lines[i];
}

static struct use* use_of(uint64_t instruction, uint64_t number) {
    uint64_t i = mix(instruction ^ (number << 7), kUseBits);
    while (uses[i].line && (uses[i].line != number || uses[i].instruction != instruction))
        i = (i + 1) % (1U << kUseBits);
    uses[i].instruction = instruction;
    uses[i].line = number;
    return &uses[i];
}

static void memory_used(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address,
                        void* instruction) {
    if (!running || !(address >> 63)) return;
    struct line* line = line_of(address >> kLineShift);
    struct use* use = use_of((uint64_t)(uintptr_t)instruction, line->line);
    line->cpus |= 1U << cpu;
    if (qemu_plugin_mem_is_store(info)) {
        ++line->stores;
        ++use->stores;
    } else {
        ++use->loads;
    }
}

static void write_out(void) {
    FILE* out = fopen(path, "w");
    if (!out) abort();
    for (size_t i = 0; i < 1U << kUseBits; ++i) {
        if (!uses[i].line) continue;
        const struct line* line = line_of(uses[i].line);
        if (!line->stores || !(line->cpus & (line->cpus - 1))) continue;
        fprintf(out, "%" PRIx64 " %" PRIx64 " %u %u %" PRIu64 "\n", uses[i].instruction,
                uses[i].line << kLineShift, uses[i].loads, uses[i].stores, line->stores);
    }
    fclose(out);
}

static void begin(unsigned int cpu, void* data) {
    (void)cpu, (void)data;
    if (ended == writers) {
        memset(uses, 0, sizeof(*uses) << kUseBits);
        memset(lines, 0, sizeof(*lines) << kLineBits);
        ended = 0;
    }
    ++running;
}

static void end(unsigned int cpu, void* data) {
    (void)cpu, (void)data;
    --running;
    if (++ended == writers) write_out();
}

// nopl "eb??"(%rax,%rax,1): see writes.cc.
static void look_for_mark(struct qemu_plugin_insn* insn) {
    static const unsigned char kBegin[] = {0x0f, 0x1f, 0x84, 0x00, 'e', 'b', 'b', '1'};
    static const unsigned char kEnd[] = {0x0f, 0x1f, 0x84, 0x00, 'e', 'b', 'b', '2'};
    if (qemu_plugin_insn_size(insn) != sizeof(kBegin)) return;
    const void* bytes = qemu_plugin_insn_data(insn);
    if (memcmp(bytes, kBegin, sizeof(kBegin)) == 0)
        qemu_plugin_register_vcpu_insn_exec_cb(insn, begin, 0, NULL);
    if (memcmp(bytes, kEnd, sizeof(kEnd)) == 0)
        qemu_plugin_register_vcpu_insn_exec_cb(insn, end, 0, NULL);
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb* tb) {
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); ++i) {
        struct qemu_plugin_insn* insn = qemu_plugin_tb_get_insn(tb, i);
        uint64_t address = qemu_plugin_insn_vaddr(insn);
        if (address >> 63)
            qemu_plugin_register_vcpu_mem_cb(insn, memory_used, 0, kReadsAndWrites,
                                             (void*)(uintptr_t)address);
        else
            look_for_mark(insn);
    }
}

int qemu_plugin_install(qemu_plugin_id_t id, const void* info, int argc, char** argv) {
    (void)info;
    if (argc != 2 || strncmp(argv[0], "out=", 4) != 0 || strncmp(argv[1], "writers=", 8) != 0)
        return 1;
    path = strdup(argv[0] + 4);
    writers = atoi(argv[1] + 8);
    uses = calloc(1U << kUseBits, sizeof(*uses));
    lines = calloc(1U << kLineBits, sizeof(*lines));
    if (!path || !uses || !lines) return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
