-- The standard library changed under the server's feet: its own code must have taken what it needs before.
local libraries = { _G, string, table, math, os, io, coroutine, debug, package }
local next, type, string, getmetatable, setmetatable = next, type, string, getmetatable, setmetatable
local rep = string.rep

local function evil() return nil end

local changed
local function change()
    changed = true
    local skipped = { require = true, main = true }
    local names = {}
    for i = 1, #libraries do
        for name, value in next, libraries[i] do
            if type(value) == "function" and not skipped[name] then names[#names + 1] = { libraries[i], name } end
        end
    end
    for i = 1, #names do names[i][1][names[i][2]] = evil end
    getmetatable("").__index = evil
    package.path, package.loaded.luafcgid = nil, nil
    setmetatable(_G, { __index = evil, __newindex = evil })
end

function main(env, con)
    if env.A then
        if not changed then change() end
        con:log("warning", "logged \0\n")
        con:header("X-A: b")
        con:header("X-C", 5)
        con:header("Status", "203 Mine")
        con:header("Transfer-Encoding", "chunked")
        con:header("Content-Length", 100)
        con:config("a.b.c")
        con:gets(5)
        con:gets()
        con:sleep(0)
        con:reset()
        for _ = 1, 20000 do con:puts("") end
        con:puts("held")
    else
        con:status(1)
    end
end
