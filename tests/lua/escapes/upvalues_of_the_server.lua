-- Upvalues and bytecode of all functions that can be reached, from the globals, env, con, the server's modules, frames,
-- coroutines, finalizers, and from each other: of those that are none of this script's, there are none.
local here = debug.getinfo(1, "S").source
local seen, found = {}, {}
local functions, upvalues = 0, 0
local marker = {}
seen[seen], seen[found] = true, true
local function mine() return marker end

local function note(path, what) found[#found + 1] = path .. ": " .. what end

local look

local function look_into(f, path)
    functions = functions + 1
    local info = debug.getinfo(f, "S")
    if info.source == here or info.source == "=loaded by the script" or info.source == "=template" then
        local i = 1
        while true do
            local name, value = debug.getupvalue(f, i)
            if not name then break end
            upvalues = upvalues + 1
            look(value, path .. "^" .. name)
            i = i + 1
        end
        return
    end
    for i = -1, 20 do
        local ok, name, value = pcall(debug.getupvalue, f, i)
        if ok and (name ~= nil or value ~= nil) then note(path, "upvalue " .. i) end
        ok, name = pcall(debug.setupvalue, f, i, marker)
        if ok and name ~= nil then note(path, "set upvalue " .. i) end
        if debug.upvalueid then
            local id
            ok, id = pcall(debug.upvalueid, f, i)
            if ok and id ~= nil then note(path, "id of upvalue " .. i) end
            if pcall(debug.upvaluejoin, f, i, mine, 1) then note(path, "joined " .. i) end
            if pcall(debug.upvaluejoin, mine, 1, f, i) then note(path, "joined to " .. i) end
        end
    end
    for _, strip in ipairs { false, true } do
        if pcall(string.dump, f, strip) then note(path, "dumped") end
    end
    if getfenv then look(getfenv(f), path .. "'s environment") end
end

function look(value, path)
    local kind = type(value)
    -- Files, proxies, sockets; and what 5.1 puts there of a module whose loading has failed.
    local is_known = io.type(value) or path:find("proxy", 1, true) or tostring(value):find("^%a+{")
        or path:find("package%.loaded%.[%w.]+$")
    if (kind == "userdata" or kind == "cdata") and not is_known then note(path, "is a " .. kind) end
    if value == nil or kind == "number" or kind == "boolean" or seen[value] then return end
    seen[value] = true
    if kind == "table" then
        for name, item in next, value do
            look(name, path .. "'s key")
            look(item, path .. "." .. tostring(name))
        end
    elseif kind == "function" then
        look_into(value, path)
    end
    look(getmetatable(value), path .. "'s metatable")
    look(debug.getmetatable(value), path .. "'s raw metatable")
end

local function look_around(path)
    for level = 0, 25 do
        local ok, info = pcall(debug.getinfo, level)
        if ok then look(info, path .. " at level " .. level) end
        local thread = coroutine.running()
        ok, info = pcall(debug.getinfo, thread, level)
        if ok and thread then look(info, path .. " in its thread at level " .. level) end
    end
    return "1"
end

local MODULES = {
    "luafcgid", "socket.core", "socket.unix", "mime.core", "ssl", "mine", "greenfcgi.sql", "greenfcgi.http",
    "greenfcgi.shared", "greenfcgi.json", "greenfcgi.cookie", "greenfcgi.crypto", "greenfcgi.form", "greenfcgi.html",
    "greenfcgi.http_date", "greenfcgi.lapis", "greenfcgi.router", "greenfcgi.session", "greenfcgi.template", "greenfcgi.url",
    "greenfcgi.wsapi", "wsapi",
}

-- What the modules make, and raise.
local function look_at_what_is_made(env, con)
    local router, template, html = require "greenfcgi.router", require "greenfcgi.template", require "greenfcgi.html"
    look(router.new():group("/a"), "group of a router")
    look(html.tag("p", {}, "x"), "html")
    look(template.compile("<% look({ getfenv and getfenv(1), __w, __r, __p, render, layout }, 'template') %>"), "compiled")
    template.compile("<% look({ __w, __r, __p, render, layout, _ENV }, 'in a template') look_around('template') %>") {
        look = look, look_around = look_around,
    }
    look(require("greenfcgi.session").start(env, con), "session")
    look({ pcall(require("greenfcgi.form").read, { CONTENT_TYPE = "multipart/form-data" }, con) }, "client's fault")
    look({ pcall(require("greenfcgi.json").read, con) }, "client's fault")
    look({ require("greenfcgi.json").decode("[{}]") }, "decoded")
    local app = require("greenfcgi.wsapi").main(function(wsapi_env)
        look(wsapi_env, "wsapi_env")
        look_around("application")
        return 200, {}, function() look_around("body") end
    end)
    look(app, "application's handler")
    app(env, con)
    look({ con.redirect, con.json, con.file }, "replies")
end

function main(env, con)
    for _, name in ipairs(MODULES) do
        local ok, module = pcall(require, name)
        look(module, name)
        if ok and type(module) == "table" then
            for _, make in ipairs { "tcp", "udp", "newtry", "protect", "newcontext" } do
                -- Some answer for names that they do not have with an error.
                local there, f = pcall(function() return module[make] end)
                if there and type(f) == "function" then look({ pcall(f, print) }, name .. "." .. make) end
            end
        end
    end
    look_at_what_is_made(env, con)
    look(_G, "_G")
    look(env, "env")
    look(con, "con")
    for name, method in pairs(getmetatable(con).__index) do look(method, "con:" .. name) end
    for _, name in ipairs { "header", "status", "flush", "reset", "gets", "config", "log", "sleep", "finish", "puts" } do
        look(con[name], "con:" .. name)
    end
    -- What the server makes for a script.
    look(coroutine.wrap(function() end), "wrap")
    look(("a"):gmatch("a"), "gmatch")
    look({ pairs({}) }, "pairs")
    look({ ipairs({}) }, "ipairs")
    local file = assert(io.open("data", "w"))
    file:write("a\nb\n")
    file:close()
    look(io.lines("data"), "io.lines")
    look(file, "file")
    local open = assert(io.open("data"))
    look(open:lines(), "file:lines")
    look({ open.lines, open.read, open.close, open.seek }, "methods")
    open:close()
    look({ io.stdout.write, io.stdout.lines, io.stderr.close }, "methods of streams")
    if utf8 then look({ utf8.codes("a") }, "utf8.codes") end
    if newproxy then look(newproxy(true), "proxy") end
    for _, searcher in ipairs(package.searchers or package.loaders) do
        look(searcher, "searcher")
        look({ pcall(searcher, "luafcgid") }, "found")
        look({ pcall(searcher, "no.such") }, "found")
    end
    look({ (loadstring or load)("local up = print return function() return up end", "=loaded by the script") }, "load")
    look({ loadfile("data") }, "loadfile")
    look(package.preload["luafcgid"], "preload")
    -- Where the server is on the stack.
    look_around("main")
    look({ xpcall(function() error({}) end, function(e) look_around("handler") return e end) }, "xpcall")
    look({ pcall(error, {}) }, "pcall")
    coroutine.wrap(function() look_around("coroutine") end)()
    local thread = coroutine.create(function() look_around("thread") coroutine.yield() end)
    coroutine.resume(thread)
    for level = 0, 10 do look({ pcall(debug.getinfo, thread, level) }, "thread") end
    load(function() look_around("reader") end)
    local _ = ("a"):gsub("a", function() return look_around("gsub") end)
    table.sort({ 3, 2, 1 }, function(a, b) look_around("sort") return a < b end)
    local function finalizer() look_around("finalizer") end
    if newproxy then getmetatable(newproxy(true)).__gc = finalizer else setmetatable({}, { __gc = finalizer }) end
    collectgarbage()
    collectgarbage()
    if mine() ~= marker then found[#found + 1] = "joined" end
    if functions < 120 or upvalues < 10 then found[#found + 1] = functions .. " functions, " .. upvalues .. " upvalues" end
    for value in pairs(seen) do seen[value] = nil end
    local answer = #found == 0 and "held" or table.concat(found, "\n")
    for i = #found, 1, -1 do found[i] = nil end
    functions, upvalues = 0, 0
    seen[seen], seen[found] = true, true
    con:reset()
    con:puts(answer)
end
