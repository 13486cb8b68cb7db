-- Bytecode, which can be made to do anything, through each function that loads source text: with one bit changed, cut off,
-- lengthened, put together, or made by somebody else.
local up = "mine"
local function f(...) for i = 1, 3 do up = up .. i end return up, ... end
local dump = string.dump
local bytecode = dump(f)

function main(env, con)
    local found = {}
    local function try(name, ...)
        local ok, chunk = pcall(...)
        if ok and chunk then found[#found + 1] = name end
    end
    local function pieces(text, size)
        local at = 1
        return function()
            local piece = text:sub(at, at + size - 1)
            at = at + size
            return piece
        end
    end
    local function try_all(name, text)
        for _, mode in ipairs { "b", "bt", "tb", "t" } do try(name .. ", load " .. mode, load, text, "=x", mode) end
        try(name .. ", load", load, text)
        try(name .. ", load with environment", load, text, "=x", nil, {})
        try(name .. ", reader", load, pieces(text, 7))
        try(name .. ", reader of single bytes", load, pieces(text, 1), "=x", "b")
        try(name .. ", reader of everything", load, pieces(text, #text))
        if loadstring then
            try(name .. ", loadstring", loadstring, text)
            try(name .. ", loadstring b", loadstring, text, "=x", "b")
        end
    end
    for at = 2, #bytecode do
        local changed = bytecode:sub(1, at - 1) .. string.char((bytecode:byte(at) + 1) % 256) .. bytecode:sub(at + 1)
        try(at .. " changed", loadstring or load, changed)
        if at % 16 == 0 then
            try_all(at .. " changed", changed)
            try_all(at .. " cut off", bytecode:sub(1, at - 1))
        end
    end
    try_all("longer", bytecode .. "\0")
    try_all("twice", bytecode .. bytecode)
    try_all("head", "\27Lua")
    try_all("head", "\27LJ\2")
    -- One that the script itself says is a dump.
    string.dump = function() return "\27Lua made up" end
    try_all("made up", string.dump(f))
    string.dump = dump
    -- The text alone is asked for where only text is.
    local ok, chunk = pcall(load, bytecode, "=x", "t")
    if ok and chunk then found[#found + 1] = "mode t" end
    con:puts(#found == 0 and "held" or table.concat(found, "\n"))
end
