-- math.random, different in each state: it begins with entropy of the system, before anything of the script.
--
-- LuaJIT, 5.4 and 5.5 keep the numbers of each state apart, and only need a seed. 5.1 to 5.3 call the C library's
-- generator, which the whole process shares: a script's math.randomseed(42) would decide about the numbers of others.
-- There, each state has a generator of its own: MRG32k3a of Pierre L'Ecuyer (Operations Research 47, 1999), which is
-- exact in numbers of 53 bits.
--
-- arguments: faithful(native, name): as in limits.lua; six whole numbers from 0 to 2^32 - 1

local faithful, a, b, c, d, e, f = ...

local error, floor, format, select, tonumber, type = error, math.floor, string.format, select, tonumber, type
local native_randomseed = faithful(math.randomseed, "randomseed")

if jit then
    -- It takes a number of 53 bits.
    native_randomseed(a % 2097152 * 4294967296 + b)
    return
end

if _VERSION >= "Lua 5.4" then
    local first, second = a * 4294967296 + b, c * 4294967296 + d
    native_randomseed(first, second)
    function math.randomseed(...)
        if select("#", ...) > 0 then return native_randomseed(...) end
        -- Lua itself would take the time in seconds and an address, which are often the same.
        first = first + 1
        return native_randomseed(first, second)
    end
    return
end

local integers, tointeger, maxinteger, huge = math.type, math.tointeger, math.maxinteger, math.huge

-- The state: three numbers below M1, and three below M2.
local M1, M2 = 4294967087, 4294944443
local x1, x2, x3, y1, y2, y3

local function seed(p, q, r, s, t, u)
    -- None of the threes may be all 0.
    x1, x2, x3 = p % (M1 - 1) + 1, q % M1, r % M1
    y1, y2, y3 = s % (M2 - 1) + 1, t % M2, u % M2
end

seed(a, b, c, d, e, f)

-- From 0 up to, and without, 1.
local function draw()
    local x = (1403580 * x2 - 810728 * x1) % M1
    x1, x2, x3 = x2, x3, x
    local y = (527612 * y3 - 1370589 * y1) % M2
    y1, y2, y3 = y2, y3, y
    -- Lua 5.1 and 5.2 round the quotient of a remainder, which may then be off by one divisor.
    return (x - y) % M1 / M1
end

-- A number, or what can be read as one.
local function number(value, position, name, count)
    local result = tonumber(value)
    if not result or (type(value) ~= "number" and type(value) ~= "string") then
        error(format("bad argument #%d to '%s' (number expected, got %s)", position, name,
            count < position and "no value" or type(value)), 3)
    end
    if name == "randomseed" or not integers then return result end
    local whole = tointeger(result)
    if not whole then
        error(format("bad argument #%d to '%s' (number has no integer representation)", position, name), 3)
    end
    return whole
end

function math.random(...)
    local r = draw()
    local low, high, more = ...
    if low == nil and select("#", ...) == 0 then return r end
    if more == nil and type(low) == "number" and low % 1 == 0
        and (high == nil or type(high) == "number" and high % 1 == 0) then
        -- As nearly always.
        if high == nil then low, high = 1, low end
        if low <= high and high - low < 4294967296 then
            r = r * (high - low + 1)
            if integers then return tointeger(low + floor(r)) end
            return low + (r - r % 1)
        end
        low, high = ...
    end
    local count = select("#", ...)
    if count == 1 then
        low, high = 1, number(low, 1, "random", count)
    elseif count == 2 then
        low, high = number(low, 1, "random", count), number(high, 2, "random", count)
    else
        error("wrong number of arguments", 2)
    end
    if low > high then
        error(format("bad argument #%d to 'random' (interval is empty)", integers and 1 or count), 2)
    end
    if integers and low < 0 and high > maxinteger + low then
        error("bad argument #1 to 'random' (interval too large)", 2)
    end
    if not integers then low, high = floor(low), floor(high) end
    return low + floor(r * (high - low + 1.0))
end

function math.randomseed(...)
    local value = floor(number((...), 1, "randomseed", select("#", ...)))
    -- Neither of these is a seed anywhere.
    if value ~= value or value == huge or value == -huge then value = 0 end
    local state, high = value % 4294967296, floor(value / 4294967296) % 4294967296
    local function more()
        state = (69069 * state + 1234567) % 4294967296
        return state
    end
    seed(more(), more(), (more() + high) % 4294967296, more(), more(), more())
end
