"""Lua that is put into programs as it is: one snippet a line, goes on where the next is indented."""

from __future__ import annotations

from typing import Final


def _snippets(text: str) -> tuple[str, ...]:
    found: list[str] = []
    for line in text.strip("\n").split("\n"):
        if line.startswith("    "):
            found[-1] += " " + line.strip()
        else:
            found.append(line)
    return tuple(found)


#: Statements that never end, or wait for longer than they may.
ENDLESS: Final = _snippets(r"""
while true do end
while true do pcall(error) end
for i = 1, 2^53 do end
while true do x1 = {} end
pcall(function(...) while true do s1 = s1 .. 'x' end end)
table.sort({3, 1, 2}, function(...) while true do end end)
repeat pcall(coroutine.wrap(function(...) while true do end end)) until false
x1 = ('x'):gsub('.', function(...) while true do end end)
while true do pcall(string.rep, 'x', 1e5) end
coroutine.wrap(function(...) while true do coroutine.wrap(function(...) end)() end end)()
xpcall(function(...) while true do end end, function(...) while true do end end)
while true do pcall(table.sort, {5, 4, 3, 2, 1}) end
while true do con:sleep(0) end
con:sleep(100)
con:sleep(1e8)
""")
#: Ways to yield from inside something else, most of which some Lua does not allow.
YIELDS: Final = _snippets(r"""
table.sort({3, 1, 2}, function(a, b) coroutine.yield(a) return a < b end)
x1 = ('abc'):gsub('.', function(c) coroutine.yield(c) end)
for a, b in coroutine.yield, 1, 2 do burn() end
x1 = setmetatable({}, {__index = function(t, k) return coroutine.yield(k) end}).a
x1 = setmetatable({}, {__add = coroutine.yield}) + 1
x1 = setmetatable({}, {__concat = coroutine.yield}) .. 'a' .. 'b'
x1 = setmetatable({}, {__lt = coroutine.yield}) < setmetatable({}, {__lt = coroutine.yield})
x1 = #setmetatable({}, {__len = coroutine.yield})
x1 = tostring(setmetatable({}, {__tostring = coroutine.yield}))
setmetatable({}, {__newindex = coroutine.yield})[1] = 2
x1 = setmetatable({}, {__eq = coroutine.yield}) == setmetatable({}, {})
load(coroutine.yield)
require 'yields'
dofile 'yields.lua'
xpcall(coroutine.yield, print, 1)
xpcall(error, coroutine.yield, 1)
for k in pairs(setmetatable({}, {__pairs = coroutine.yield})) do end
table.foreach({1}, coroutine.yield)
pcall(pcall, pcall, coroutine.yield, 1)
string.gsub('x', 'x', coroutine.yield)
select(2, coroutine.yield())
table.concat(setmetatable({}, {__index = coroutine.yield, __len = function(...) return 2 end}))
table.unpack(setmetatable({}, {__index = coroutine.yield}), 1, 3)
con:puts(coroutine.yield())
coroutine.wrap(coroutine.yield)(1)
""")
#: Operations that call metamethods: TABLE and OTHER are tables, A and B anything.
OPERATIONS: Final = _snippets(r"""
x1 = A OP B
x1 = TABLE OP B
x1 = A .. B .. TABLE
x1 = TABLE < OTHER
x1 = TABLE <= OTHER
x1 = TABLE == OTHER
x1 = #TABLE
x1 = -TABLE
x1 = TABLE.a
x1 = TABLE[A]
TABLE[A] = B
x1 = TABLE(A, B)
x1 = tostring(TABLE)
for k, v in pairs(TABLE) do burn() x1 = k end
for k, v in ipairs(TABLE) do burn() x1 = v end
x1 = A:METHOD(B)
x1 = A.x.y
con:puts(TABLE)
for k in next, TABLE do burn() TABLE[k] = nil end
for k, v in pairs(TABLE) do burn() TABLE[k] = nil TABLE[A] = v end
x1 = TABLE.a.a.a
return TABLE
x1 = #A > n1
for i in A, B do burn() end
""")
#: The same where there are integers.
INTEGER_OPERATIONS: Final = ("x1 = ~A", "x1 = A // B", "x1 = A << B", "x1 = TABLE & B", "x1 = A >> TABLE")
#: What a finalizer does with its object `o`. The last takes long.
IN_FINALIZER: Final = _snippets(r"""
error('in a finalizer')
error({})
error()
G = o
G = {o, G}
collectgarbage()
collectgarbage('step')
collectgarbage('count')
collectgarbage('generational')
collectgarbage('incremental')
collectgarbage('stop')
collectgarbage('restart')
collectgarbage('setpause', 0)
collectgarbage('step', 1e9)
x1 = ('x'):rep(1e5)
for i = 1, 500 do x1 = {x1} end
setmetatable(o, getmetatable(o))
t1[#t1 + 1] = o
setmetatable({}, getmetatable(o))
pcall(newproxy, o)
con:puts('gone')
con:log('gone')
con:flush()
pcall(error, o)
coroutine.wrap(function(...) coroutine.yield(o) end)()
coroutine.yield(o)
x1 = coroutine.resume(c1)
local m = getmetatable(o) m.__gc = nil
getmetatable(o).__gc = 5
getmetatable(o).__gc = error
table.sort({3, 2, 1}, function(a, b) return a < b end)
x1 = ('a'):gsub('a', function(...) error(o) end)
load('x1 = 1')()
require 'err'
for k in pairs(t1) do t1[k] = nil end
x1 = debug.traceback()
con:sleep(0.01)
x1 = {} for i = 1, 30 do x1[i] = setmetatable({}, getmetatable(o)) end
x1 = tostring(o)
s1 = s1 .. 'x'
fcgid.serialize(t1)
xpcall(error, error)
c1 = coroutine.create(f1)
x1 = pcall(f1, o)
con:gets(5)
main = nil
pcall(function(...) local function r() return r() + 1 end r() end)
""")
#: Ways in which a function `r` calls itself.
TOWERS: Final = _snippets(r"""
pcall(r)
xpcall(r, r)
xpcall(r, print)
coroutine.wrap(r)()
coroutine.resume(coroutine.create(r))
string.gsub('x', 'x', r)
table.sort({1, 2, 3}, r)
r()
x1 = setmetatable({}, {__index = r}).x
x1 = tostring(setmetatable({}, {__tostring = r}))
load(r)
x1 = setmetatable({}, {__add = r}) + 1
x1 = setmetatable({}, {__concat = r}) .. 'x'
setmetatable({}, {__newindex = r}).x = 1
x1 = setmetatable({}, {__call = r})()
x1 = setmetatable({}, {__lt = r}) < setmetatable({}, {__lt = r})
x1 = #setmetatable({}, {__len = r})
for k in r do break end
for k in pairs(setmetatable({}, {__pairs = r})) do break end
return r()
x1 = {r()}
package.preload.tower = r package.loaded.tower = nil require 'tower'
select(-1, r())
string.format('%s', setmetatable({}, {__tostring = r}))
coroutine.wrap(function(...) local w = coroutine.wrap(r) w() coroutine.yield() end)()
dofile 'tower.lua'
print(setmetatable({}, {__tostring = r}))
table.concat(setmetatable({}, {__index = r, __len = function(...) return 3 end}))
error(setmetatable({}, {__tostring = r}))
xpcall(error, r)
string.gsub('xy', '(x)(y)', r)
for k in string.gmatch(tostring(r()), '.') do end
con:log(setmetatable({}, {__tostring = r}))
assert(load('return ...'))(r())
x1 = setmetatable({}, {__eq = r}) == setmetatable({}, {__eq = r})
next({}, r())
string.rep(r(), 2)
table.foreach({1}, r)
setfenv(r, getfenv(r))()
collectgarbage() r()
""")
#: The same where variables are closed.
CLOSING_TOWERS: Final = _snippets(r"""
local c <close> = setmetatable({}, {__close = r})
local c = coroutine.create(function() local c <close> = setmetatable({}, {__close = r}) coroutine.yield() end)
    coroutine.resume(c) coroutine.close(c)
""")
#: Calls with COUNT arguments or results.
MANY: Final = _snippets(r"""
function(...) return UNPACK({}, 1, COUNT) end
function(...) return select('#', UNPACK({}, 1, COUNT)) end
function(...) return string.char(UNPACK({65, 66}, 1, 2), ('x'):byte(1, COUNT)) end
string.byte, ('x'):rep(1e5), 1, COUNT
function(...) return {UNPACK({}, 1, COUNT)} end
function(...) return f1(UNPACK({}, 1, COUNT)) end
function(...) return coroutine.wrap(f1)(UNPACK({}, 1, COUNT)) end
function(...) return coroutine.wrap(function(...) return coroutine.yield(UNPACK({}, 1, COUNT)) end)() end
function(...) return math.max(UNPACK({1, 2, 3}, 1, 3), UNPACK({}, 1, COUNT)) end
string.format, ('%s'):rep(COUNT), UNPACK({1, 2, 3}, 1, 3)
function(...) return pcall(f1, UNPACK({}, 1, COUNT)) end
function(...) return con.puts(con, UNPACK({}, 1, COUNT)) end
function(...) print(UNPACK({}, 1, COUNT)) end
function(...) return string.char(UNPACK(setmetatable({}, {__index = function(...) return 65 end}), 1, COUNT)) end
function(...) local function r(n, ...) if n > 0 then return r(n - 1, n, ...) end return select('#', ...) end return
    r(COUNT) end
function(...) return xpcall(f1, print, UNPACK({}, 1, COUNT)) end
function(...) return table.concat({UNPACK({'a', 'b'}, 1, 2), ('y'):byte(1, COUNT)}) end
function(...) return coroutine.resume(coroutine.create(function(...) return ... end), UNPACK({}, 1, COUNT)) end
function(...) return select(-1, UNPACK({}, 1, COUNT)) end
function(...) return io.write(UNPACK({}, 1, COUNT)) end
function(...) return table.pack(UNPACK({}, 1, COUNT)) end
function(...) return setmetatable({}, {__call = f1})(UNPACK({}, 1, COUNT)) end
function(...) return assert(UNPACK({1}, 1, COUNT)) end
function(...) return error(UNPACK({}, 1, COUNT)) end
""")
#: What needs much memory.
MEMORY: Final = _snippets(r"""
local q = {} for i = 1, 1e4 do q[i] = ('x'):rep(100) .. i end G = q
for i = 1, 25 do s1 = s1 .. s1 end
local q = {} for i = 1, 1e6 do q[i] = i end
x1 = ('x'):rep(1e6):rep(3)
local q = {} for i = 1, 1e5 do q[i] = {} end
x1 = ('x'):rep(7e5):upper()
x1 = ('x'):rep(7e5):gsub('x', 'yy')
x1 = string.format('%q', ('\0'):rep(4e5))
local q = {} for i = 1, 3000 do q[i] = ('y'):rep(300) end x1 = table.concat(q)
local q = {} while true do q = {q} end
for i = 1, 300 do con:puts(('z'):rep(1e4)) end
local q = {} for i = 1, 3e4 do q['k' .. i] = i end
local q = {} for i = 1, 500 do q[i] = coroutine.create(f1) coroutine.resume(q[i]) end
fcgid.serialize({s1, s1, s1, s1})
x1 = fcgid.urlencode(('\1'):rep(3e5))
for i = 1, 1000 do con:header('X-' .. i, ('v'):rep(1000)) end
local function r(n) return {r(n + 1)} end r(1)
local function r(...) return r(1, ...) end r()
x1 = ('x'):rep(5e5) .. ('y'):rep(5e5)
x1 = ('x'):rep(3e5):reverse():lower():sub(2)
con:log(('l'):rep(2e5))
x1 = load('return {' .. ('{},'):rep(1e5) .. '}')
error(('e'):rep(6e5))
error(setmetatable({}, {__tostring = function(...) return ('e'):rep(9e5) end}))
local q = {} for i = 1, 1e5 do q[#q + 1] = setmetatable({}, {__gc = function(...) end}) end
local q = {} for i = 1, 2e4 do q[i] = function(...) return q, i end end
""")
#: Data that is deep, or contains itself.
DEEP: Final = _snippets(r"""
local q = {} for i = 1, 300 do q = {q} end fcgid.serialize(q)
local q = {} for i = 1, 30000 do q = {q} end fcgid.serialize(q)
t1.t = t1 fcgid.serialize(t1)
local q = {} for i = 1, 300 do q = setmetatable({}, {__index = q}) end x1 = q.x
local q = {} q = setmetatable(q, q) q.__index = q x1 = q.x
local q = setmetatable({}, {}) getmetatable(q).__newindex = q q.x = 1
local q = f1 for i = 1, 300 do local p = q q = function(...) return p(...) end end q()
local q = print for i = 1, 200 do q = setmetatable({}, {__call = q}) end q()
local q = {} for i = 1, 30000 do q = setmetatable({}, {__index = q}) end x1 = q.x
local s = '' for i = 1, 300 do s = s .. '(' end x1 = ('x'):find(s)
local w = f1 for i = 1, 250 do w = coroutine.wrap(w) end w()
local w = coroutine.create(f1) for i = 1, 250 do local v = w w = coroutine.create(function(...) return
    coroutine.resume(v) end) end coroutine.resume(w)
fcgid.parse(('a=1&'):rep(2000))
local q = {} for i = 1, 30000 do q = {q} end q = nil collectgarbage()
x1 = fcgid.urldecode(('%41'):rep(10000))
local q = coroutine.create(f1) for i = 1, 3000 do local p = q q = coroutine.create(function(...) return p end)
    coroutine.resume(q) end
local q = {} for i = 1, 20000 do q = setmetatable({q}, {__mode = 'v'}) end collectgarbage()
local s = ('x'):rep(200) for i = 1, 200 do s = s:gsub('x', '%0', i) end
error(error(error(error(5))))
""")
#: What the debug library is asked.
TRACED: Final = _snippets(r"""
for i = -3, 20 do x1 = debug.getinfo(i) end
for i = 0, 10 do x1 = debug.getinfo(c1, i, 'nSl') end
x1 = debug.traceback(c1)
x1 = debug.getinfo(1, 'f').func
x1 = debug.getinfo(main).source
debug.traceback('x', 2^31)
debug.traceback('x', -2^31)
debug.getinfo(2^31)
debug.getinfo(-1)
debug.getinfo(1, ('n'):rep(1e5))
x1 = debug.traceback(coroutine.create(print), 'x', -5)
for k, v in pairs(debug) do pcall(v, 1, 2, 3) end
local function r(n) if n == 0 then x1 = debug.traceback() else r(n - 1) end end r(150)
""")
