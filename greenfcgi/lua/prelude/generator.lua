-- The generator of random numbers of one state, on 5.1 to 5.3: MRG32k3a of Pierre L'Ecuyer (Operations Research 47, 1999),
-- which is exact in numbers of 53 bits.
--
-- arguments: lua, server: see boot.lua
-- returns: random and randomseed in a table

local lua, server = ...

local floor, tointeger, maxinteger = lua.floor, lua.tointeger, lua.maxinteger

local byte, format, select, tonumber, type = lua.byte, lua.format, lua.select, lua.tonumber, lua.type
-- This Lua has them.
local integers = maxinteger ~= nil
local huge = 1 / 0

local function blame(problem) server.errors.blame(problem) end

-- The state: three numbers below M1, and three below M2.
local M1, M2 = 4294967087, 4294944443
local x1, x2, x3, y1, y2, y3

local function seed(p, q, r, s, t, u)
    -- None of the threes may be all 0.
    x1, x2, x3 = p % (M1 - 1) + 1, q % M1, r % M1
    y1, y2, y3 = s % (M2 - 1) + 1, t % M2, u % M2
end

local function whole(text, at)
    local a, b, c, d = byte(text, at, at + 3)
    return ((a * 256 + b) * 256 + c) * 256 + d
end

local chance = server.ask("entropy", 24)
seed(whole(chance, 1), whole(chance, 5), whole(chance, 9), whole(chance, 13), whole(chance, 17), whole(chance, 21))

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
        blame(format("bad argument #%d to '%s' (number expected, got %s)", position, name,
            count < position and "no value" or type(value)))
    end
    if name == "randomseed" or not integers then return result end
    local integer = tointeger(result)
    if not integer then
        blame(format("bad argument #%d to '%s' (number has no integer representation)", position, name))
    end
    return integer
end

local function random(...)
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
        blame("wrong number of arguments")
    end
    if low > high then
        blame(format("bad argument #%d to 'random' (interval is empty)", integers and 1 or count))
    end
    if integers and low < 0 and high > maxinteger + low then
        blame("bad argument #1 to 'random' (interval too large)")
    end
    if not integers then low, high = floor(low), floor(high) end
    return low + floor(r * (high - low + 1.0))
end

local function randomseed(...)
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

return { random = random, randomseed = randomseed }
