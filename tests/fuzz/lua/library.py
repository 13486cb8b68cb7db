"""The functions that scripts reach, and what each takes, by a letter for each argument.

n a number, i a small one, s a text, p a pattern, r a replacement, t a table, f a function, c a coroutine, F a file
name, W a name to write to, M a module's name, m a mode of io.open, R what read takes, g an option of collectgarbage,
G a format of string.format, P one of string.pack, D one of os.date, I what getinfo takes, L a program for load, h a
file, k a key, x anything, . more of anything. In small letters behind a "?": may be left out.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from .flavours import JIT, OF_5_1, WITH_CLOSE, WITH_INTEGERS, WITH_TABLE_GC

_ANYWHERE: Final = """
    assert:x?x ipairs:t next:t?k pairs:t pcall:f?.. rawequal:xx rawget:tk rawset:tkx select:n?... tonumber:x?i
    tostring:x
    type:x xpcall:ff error:x?i print:?... setmetatable:tt getmetatable:x collectgarbage:g?n collectgarbage:g
    load:L?s load:f?s loadfile:F dofile:F require:M
    string.byte:s?nn string.char:?iii string.char:?nn string.dump:f?x string.find:sp?n string.find:ssnx
    string.format:G?.... string.format:G?xxnnss string.gmatch:sp string.gsub:spr?n string.gsub:spf?n string.gsub:spt
    string.len:s string.lower:s string.match:sp?n string.rep:sn string.rep:si string.reverse:s string.sub:sn?n
    string.upper:s
    table.concat:t?snn table.concat:t?s table.insert:tx table.insert:tnx table.remove:t?n table.sort:t table.sort:tf
    math.abs:n math.ceil:n math.floor:n math.fmod:nn math.max:n?nn math.min:n?nn math.modf:n math.random:?nn
    math.random:n math.randomseed:?nn math.sqrt:n math.exp:n math.log:n?n math.sin:n math.acos:n
    io.open:F?m io.open:Wm io.lines:F?R io.close:?h io.input:?F io.input:h io.output:?W io.output:h io.read:?RR
    io.write:?xx io.type:x io.tmpfile:
    os.clock: os.date:?Dn os.date:D os.difftime:n?n os.getenv:s os.remove:W os.rename:FW os.setlocale:?ss os.time:?t
    os.exit:?n os.execute:?s io.popen:s?m
    coroutine.create:f coroutine.resume:c?... coroutine.resume:x coroutine.running: coroutine.status:c coroutine.wrap:f
    coroutine.yield:?... coroutine.status:x
    debug.traceback:?csn debug.traceback:?sn debug.traceback:x debug.getinfo:f?I debug.getinfo:n?I debug.getinfo:cnI
    debug.getinfo:x?x debug.getupvalue:fi debug.getupvalue:xx debug.setupvalue:fix debug.setupvalue:xxx
    debug.getmetatable:x debug.setmetatable:st debug.setmetatable:sx debug.setmetatable:xt debug.gethook:
    string.dump:x?x
    con.puts:Cs con.puts:Cs con.puts:Cx con.header:Css con.header:Cs con.header:Cxx con.status:Cn?s con.gets:C?n
    con.gets:C con.flush:C con.reset:C con.config:Cs con.config:Cx con.log:Cs con.log:Css con.log:Cx con.sleep:Cq
    con.sleep:Cn con.puts:xx con.header:xxx con.flush:x
    fcgid.serialize:x fcgid.serialize:t fcgid.urlencode:s fcgid.urlencode:x fcgid.urldecode:s fcgid.urldecode:x
    fcgid.parse:s
    fcgid.parse:x fcgid.urldecode:p
"""
_BY_FLAVOUR: Final = (
    (OF_5_1, """
        loadstring:L?s setfenv:ft setfenv:nt getfenv:?f getfenv:?n unpack:t?nn newproxy:?x module:M?ff package.seeall:t
        table.maxn:t table.foreach:tf table.foreachi:tf table.getn:t table.setn:tn math.pow:nn math.log10:n
        math.ldexp:nn math.frexp:n gcinfo: string.gfind:sp math.mod:nn
    """),
    (JIT, """
        bit.band:n?nn bit.bor:n?nn bit.bxor:n?nn bit.bnot:n bit.lshift:nn bit.rshift:nn bit.arshift:nn bit.rol:nn
        bit.ror:nn
        bit.bswap:n bit.tobit:n bit.tohex:n?n table.move:tnnn?t jit.on:?f jit.off:?fx jit.flush:?f jit.status:
        xpcall:ff... load:L?sst coroutine.isyieldable: string.rep:sns
    """),
    ((*WITH_TABLE_GC, *JIT), "debug.upvalueid:fi debug.upvalueid:xx debug.upvaluejoin:fifi debug.upvaluejoin:xxxx"),
    (("lua52",), """
        bit32.band:?nnn bit32.bor:?nn bit32.bxor:?nn bit32.bnot:n bit32.lshift:nn bit32.rshift:nn bit32.arshift:nn
        bit32.extract:nn?n bit32.replace:nnn?n bit32.lrotate:nn bit32.rrotate:nn bit32.btest:?nn math.pow:nn
        math.ldexp:nn
    """),
    (WITH_TABLE_GC, """
        rawlen:x table.pack:?... table.unpack:t?nn load:L?sst load:f?sst loadfile:F?st package.searchpath:MF?ss
        string.rep:sns string.rep:sis xpcall:ff...
    """),
    (WITH_INTEGERS, """
        utf8.char:?nnn utf8.codepoint:s?nnx utf8.codes:s?x utf8.len:s?nnx utf8.offset:sn?n math.tointeger:x math.type:x
        math.ult:nn
        string.pack:P?nnss string.pack:P?... string.packsize:P string.unpack:Ps?n table.move:tnnn?t
        coroutine.isyieldable:
    """),
    (WITH_CLOSE, "coroutine.close:c coroutine.close:x coroutine.close: warn:s?ss warn:x coroutine.isyieldable:?c"),
    (("lua55",), "table.create:n?n table.create:n collectgarbage:gsn"),
)  # fmt: skip
#: Methods of a file, whose first argument is the file.
FILE_METHODS: Final = (
    "read:?RRR",
    "lines:?R",
    "write:?xxs",
    "seek:?sn",
    "setvbuf:s?n",
    "close:",
    "flush:",
    "read:R",
    "seek:wn",
)
METAMETHODS: Final = (
    "__index", "__newindex", "__call", "__tostring", "__concat", "__add", "__sub", "__mul", "__div", "__mod", "__pow",
    "__unm",
    "__eq", "__lt", "__le", "__len", "__mode", "__gc", "__metatable", "__name",
)  # fmt: skip
_MORE_METAMETHODS: Final = (
    (WITH_TABLE_GC, ("__pairs", "__ipairs")),
    (JIT, ("__pairs", "__ipairs")),
    (WITH_INTEGERS, ("__idiv", "__band", "__bor", "__bxor", "__shl", "__shr", "__bnot")),
    (WITH_CLOSE, ("__close",)),
)


@cache
def functions(flavour: str) -> tuple[tuple[str, str], ...]:
    """The functions of a flavour, each with its arguments."""
    texts = [_ANYWHERE] + [text for flavours, text in _BY_FLAVOUR if flavour in flavours]
    found = []
    for text in texts:
        for one in text.split():
            name, _, arguments = one.partition(":")
            found.append((name, arguments))
    return tuple(found)


@cache
def names(flavour: str) -> tuple[str, ...]:
    """The names of functions that are values by themselves: all but those of con, and of the module."""
    found = (name for name, _ in functions(flavour))
    return tuple(dict.fromkeys(name for name in found if not name.startswith(("con.", "fcgid."))))


@cache
def metamethods(flavour: str) -> tuple[str, ...]:
    """The metamethods of a flavour."""
    more = (names for flavours, names in _MORE_METAMETHODS if flavour in flavours)
    return METAMETHODS + tuple(name for names in more for name in names)
