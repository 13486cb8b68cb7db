-- math.random, different in each state: it begins with entropy of the system, before anything of the script.
--
-- LuaJIT, 5.4 and 5.5 keep the numbers of each state apart, and only need a seed. 5.1 to 5.3 call the C library's
-- generator, which the whole process shares: a script's math.randomseed(42) would decide about the numbers of others.
-- There, each state has a generator of its own, which is compiled when the first number is drawn (generator.lua).
--
-- arguments: lua, server: see boot.lua

local lua, server = ...

local settings = server.settings
local a, b, c, d = settings[1], settings[2], settings[3], settings[4]
local math, native_randomseed = math, math.randomseed

if lua.is_jit then
    -- It takes a number of 53 bits.
    native_randomseed(a % 2097152 * 4294967296 + b)
elseif lua.version >= "Lua 5.4" then
    local first, second = a * 4294967296 + b, c * 4294967296 + d
    native_randomseed(first, second)
    function math.randomseed(...)
        if lua.select("#", ...) > 0 then return server.errors.call("randomseed", native_randomseed, ...) end
        -- Lua itself would take the time in seconds and an address, which are often the same.
        first = first + 1
        return native_randomseed(first, second)
    end
else
    local random

    local function generator()
        -- Without the way through here, unless it has been copied before.
        if math.random == random then math.random = server.generator.random end
        return server.generator
    end

    function random(...) return generator().random(...) end
    math.random = random
    function math.randomseed(...) return generator().randomseed(...) end
end
