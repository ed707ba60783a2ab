"""Shoal in gdb: goroutines, their stacks, and symbols of modules.

    gdb -p PID -x tools/gdb/shoal.py          PID: any process of the runtime (shoal workers, or the log)

    info goroutines [all]        one line for each goroutine; all: also dead ones, until they are used again
    goroutine GID bt [full]      frames of a goroutine that does not run, with its own memory and registers
    shoal-symbols                loads symbols of modules and libraries; runs automatically after an attach

A parked goroutine's frames lie in an image or in the window of some worker, so the attached process has other
bytes at their addresses. So `goroutine` writes a small core file (registers and stack), lets gdb unwind it in
an inferior of its own, and removes that inferior. It changes nothing in the attached process.
"""
import os
import struct
import tempfile

import gdb

STATUS = 0xfff
STATUS_NAMES = {0: "idle", 1: "runnable", 2: "running", 3: "syscall", 4: "waiting", 6: "dead", 8: "copystack", 9: "preempted"}
RES_NONE, RES_IMAGE = -2, -1
PAGE = 4096


def layout():
    """The constants of the segment, from the variable that worker/host.c has for debuggers."""
    try:
        return gdb.parse_and_eval("sh_debug_layout")
    except gdb.error:
        raise gdb.GdbError("this is not a process of shoald, or shoald has no debug information")


def memory(at, n):
    return bytes(gdb.selected_inferior().read_memory(at, n))


def word(at):
    return struct.unpack("<Q", memory(at, 8))[0]


def goroutines(every=False):
    """Yields (address, struct g) of each live goroutine."""
    at, kind = layout(), gdb.lookup_type("struct g")
    count = int(gdb.parse_and_eval("((struct shoal_root *)%d)->schedt.ngs" % int(at["base"])))
    for i in range(1, count):
        place = int(at["gs"]) + i * kind.sizeof
        g = gdb.Value(place).cast(kind.pointer()).dereference()
        status = int(g["status"]) & STATUS
        if every or status not in (0, 6):
            yield place, g


def find(gid):
    for _, g in goroutines(every=True):
        if int(g["gid"]) == gid:
            return g
    raise gdb.GdbError("no goroutine %d" % gid)


def function_at(pc):
    symbol = gdb.execute("info symbol %d" % pc, to_string=True).split(" in section")[0].strip()
    return pc and (hex(pc) if symbol.startswith("No symbol") else symbol) or "-"


def text(pointer):
    try:
        return pointer.string(length=40).split("\0")[0] if int(pointer) else ""
    except (gdb.error, UnicodeDecodeError):
        return "?"


def wait_reason(g):
    try:
        return gdb.parse_and_eval("waitreason_name[%d]" % int(g["waitreason"])).string()
    except gdb.error:
        return str(int(g["waitreason"]))


def owner(g):
    """Returns the seat in the status word, or 0 if no worker has the goroutine."""
    return ((int(g["status"]) >> 16) & 0xffff) - 1


class InfoGoroutines(gdb.Command):
    """info goroutines [all] - number, task, status, place of the frames, and function of each goroutine."""

    def __init__(self):
        super().__init__("info goroutines", gdb.COMMAND_STATUS)

    def invoke(self, arg, from_tty):
        print("%12s %6s %-10s %-22s %-8s %s" % ("GID", "TASK", "STATUS", "WAITS FOR", "FRAMES", "FUNCTION, NAME"))
        for _, g in goroutines(arg.strip() == "all"):
            status = int(g["status"]) & STATUS
            res = int(g["res"])
            frames = {RES_NONE: "none", RES_IMAGE: "image"}.get(res, "seat %d" % res)
            task = int(g["task"]) and int(g["task"]["id"])
            print("%12d %6d %-10s %-22s %-8s %s %s" % (
                int(g["gid"]), task, STATUS_NAMES.get(status, str(status)),
                wait_reason(g) if status == 4 else "", frames,
                function_at(int(g["fn"])), text(g["name"])))


WIN_THREADS = 0x10000


def thread_stack(win):
    """(lowest address, size) of a thread's stack: core/g/tstack.h."""
    for c in (gdb.parse_and_eval("tstack_class[%d]" % k) for k in range(6)):
        n = win - WIN_THREADS - int(c["first"])
        if n < int(c["n"]):
            return int(c["base"]) + n * (int(c["size"]) + int(c["gap"])) + int(c["gap"]), int(c["size"])
    raise gdb.GdbError("no stack has the number %d" % win)


def frames_of(g):
    """Returns (lowest address, bytes, registers) of the stack of a goroutine that does not run."""
    at = layout()
    status, res, win = int(g["status"]) & STATUS, int(g["res"]), int(g["win"])
    if status in (0, 6):
        raise gdb.GdbError("goroutine %d is dead" % int(g["gid"]))
    if status in (2, 3, 8):
        pid = int(gdb.parse_and_eval("((struct shoal_root *)%d)->sh.seat[%d].pid" % (int(at["base"]), owner(g))))
        raise gdb.GdbError("goroutine %d is %s on worker %d: attach to its process, %d, and use bt"
                           % (int(g["gid"]), STATUS_NAMES[status], owner(g), pid))
    if res == RES_NONE or not int(g["sp"]):
        raise gdb.GdbError("goroutine %d has not begun: it will run %s" % (int(g["gid"]), function_at(int(g["fn"]))))
    small = win < int(at["windows"])
    stride = win if small else int(at["windows"]) + 2 * (win - int(at["windows"])) + 1
    window = int(at["window_base"]) + stride * int(at["window_stride"])
    size = int(at["window_size"]) if small else int(at["large_size"])
    if win >= WIN_THREADS:
        window, size = thread_stack(win)
    sp, used = int(g["sp"]), window + size - int(g["sp"])
    if not 64 <= used <= size:
        raise gdb.GdbError("goroutine %d is damaged: its stack pointer is outside its window" % int(g["gid"]))
    if win >= WIN_THREADS:
        source = sp
    elif res == RES_IMAGE:
        source = int(g["image"])
    else:
        offset = win * int(at["window_size"]) if small else (
            int(at["windows"]) * int(at["window_size"]) + (win - int(at["windows"])) * int(at["large_size"]))
        source = int(at["regions"]) + res * int(at["region_size"]) + offset + (sp - window)
    data = memory(source, used)
    # worker/switch_x86_64.S: control words, r15 r14 r13 r12 rbx rbp, return address
    _, r15, r14, r13, r12, rbx, rbp, rip = struct.unpack("<8Q", data[:64])
    return sp, data, {"r15": r15, "r14": r14, "r13": r13, "r12": r12, "rbx": rbx, "rbp": rbp, "rip": rip, "rsp": sp + 64}


# struct user_regs_struct of x86-64, as in NT_PRSTATUS
REGISTERS = ("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss "
             "fs_base gs_base ds es fs gs").split()


def core_file(path, low, data, registers):
    """Makes an ELF core file with one thread and one piece of memory."""
    values = [registers.get(name, 0) for name in REGISTERS]
    prstatus = bytes(32) + struct.pack("<I", 1) + bytes(76) + struct.pack("<27Q", *values) + bytes(8)
    note = struct.pack("<III", 5, len(prstatus), 1) + b"CORE\0\0\0\0" + prstatus
    start, pad = low & ~(PAGE - 1), low & (PAGE - 1)
    body = bytes(pad) + data
    body += bytes(-len(body) % PAGE)
    head = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    notes_at = 64 + 2 * 56
    load_at = (notes_at + len(note) + PAGE - 1) & ~(PAGE - 1)
    head += struct.pack("<IIQQQQQQ", 4, 0, notes_at, 0, 0, len(note), 0, 4)
    head += struct.pack("<IIQQQQQQ", 1, 6, load_at, start, start, len(body), len(body), PAGE)
    with open(path, "wb") as f:
        f.write(head + note)
        f.seek(load_at)
        f.write(body)


def bias_of(path, start, offset):
    """Returns what the loader added to the addresses of a mapped file, or None if it is not an ELF file."""
    with open(path, "rb") as f:
        head = f.read(64)
        if head[:5] != b"\x7fELF\2":
            return None
        phoff, phnum = struct.unpack_from("<Q", head, 32)[0], struct.unpack_from("<H", head, 56)[0]
        for i in range(phnum):
            f.seek(phoff + i * 56)
            kind, _, at, vaddr, _, size, _, _ = struct.unpack("<IIQQQQQQ", f.read(56))
            if kind == 1 and (at & ~(PAGE - 1)) <= offset < at + size:
                return start - (vaddr + offset - at)
    return None


def mapped_code(pid):
    """Returns a list of (name, readable path, bias) for each file from which the process has code mapped."""
    found = {}
    with open("/proc/%d/maps" % pid) as maps:
        for line in maps:
            parts = line.split(None, 5)
            if len(parts) < 6 or "x" not in parts[1] or parts[5].startswith("["):
                continue
            name = parts[5].strip()
            start, offset = int(parts[0].split("-")[0], 16), int(parts[2], 16)
            path = name if os.path.exists(name) else "/proc/%d/map_files/%s" % (pid, parts[0])
            try:
                bias = bias_of(path, start, offset)
            except OSError:
                continue
            if bias is not None:
                found.setdefault((name, bias), path)
    return [(name, path, bias) for (name, bias), path in found.items()]


def add_symbols(path, bias):
    gdb.execute("add-symbol-file %s -o %d" % (path, bias), to_string=True)


class Goroutine(gdb.Command):
    """goroutine GID bt [full] - the frames of a goroutine that does not run."""

    def __init__(self):
        super().__init__("goroutine", gdb.COMMAND_STACK)

    def invoke(self, arg, from_tty):
        words = arg.split()
        if len(words) < 2 or not words[0].isdigit() or words[1] != "bt":
            raise gdb.GdbError("usage: goroutine GID bt [full]")
        inferior = gdb.selected_inferior()
        low, data, registers = frames_of(find(int(words[0])))
        code = mapped_code(inferior.pid)
        with tempfile.TemporaryDirectory(prefix="shoal-gdb.") as folder:
            core = os.path.join(folder, "core")
            core_file(core, low, data, registers)
            gdb.execute("add-inferior -no-connection", to_string=True)
            other = max(i.num for i in gdb.inferiors())
            try:
                gdb.execute("inferior %d" % other, to_string=True)
                gdb.execute("core-file " + core, to_string=True)
                for _, path, bias in code:
                    add_symbols(path, bias)
                print(gdb.execute(" ".join(words[1:]), to_string=True), end="")
            finally:
                gdb.execute("core-file", to_string=True)
                gdb.execute("inferior %d" % inferior.num, to_string=True)
                gdb.execute("remove-inferiors %d" % other, to_string=True)


known_pid = 0


def load_modules():
    """Loads symbols of the modules and libraries that the zygote loaded from memory, so that gdb finds no file."""
    global known_pid
    known_pid = gdb.selected_inferior().pid
    n = 0
    for name, path, bias in mapped_code(known_pid):
        if path != name:
            add_symbols(path, bias)
            n += 1
    return n


class Symbols(gdb.Command):
    """shoal-symbols - loads the symbols of modules, which have no file that gdb could find by its name."""

    def __init__(self):
        super().__init__("shoal-symbols", gdb.COMMAND_FILES)

    def invoke(self, arg, from_tty):
        print("%d modules and libraries" % load_modules())


def before_prompt():
    pid = gdb.selected_inferior().pid
    if pid and pid != known_pid and os.path.exists("/proc/%d/maps" % pid):
        load_modules()


gdb.execute("set confirm off")
gdb.execute("set suppress-cli-notifications on")
gdb.execute("handle SIGURG nostop noprint pass", to_string=True)  # the preemption signal
InfoGoroutines()
Goroutine()
Symbols()
gdb.events.before_prompt.connect(before_prompt)
if gdb.selected_inferior().pid:
    before_prompt()
