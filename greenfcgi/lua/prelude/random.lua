-- math.random, different in each state: it begins with entropy of the system, before anything of the script.
--
-- LuaJIT, 5.4 and 5.5 keep the numbers of each state apart, and only need a seed. 5.1 to 5.3 call the C library's
-- generator, which the whole process shares: a script's math.randomseed(42) would decide about the numbers of others.
-- There, each state has a generator of its own, which is compiled when the first number is drawn (generator.lua).
--
-- arguments: later(name, ...): a part that is compiled now; errors(): the functions of errors.lua
--            entropy(n): so many bytes that nobody can guess
--            four whole numbers from 0 to 2^32 - 1, of which the same is true

local later, errors, entropy, a, b, c, d = ...

local math = math
local native_randomseed = math.randomseed

if jit then
    -- It takes a number of 53 bits.
    native_randomseed(a % 2097152 * 4294967296 + b)
elseif _VERSION >= "Lua 5.4" then
    local select = select
    local first, second = a * 4294967296 + b, c * 4294967296 + d
    native_randomseed(first, second)
    function math.randomseed(...)
        if select("#", ...) > 0 then return errors().call("randomseed", native_randomseed, ...) end
        -- Lua itself would take the time in seconds and an address, which are often the same.
        first = first + 1
        return native_randomseed(first, second)
    end
else
    local floor, tointeger, maxinteger = math.floor, math.tointeger, math.maxinteger
    local functions, random

    local function generator()
        if not functions then
            functions = later("generator", errors, entropy, floor, tointeger, maxinteger)
            -- Without the way through here, unless it has been copied before.
            if math.random == random then math.random = functions.random end
        end
        return functions
    end

    function random(...) return generator().random(...) end
    math.random = random
    function math.randomseed(...) return generator().randomseed(...) end
end
