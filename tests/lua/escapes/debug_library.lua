-- The functions of the debug library that reach into other functions, the registry, or set hooks.
local KNOWN = {
    traceback = true, getinfo = true, getupvalue = true, setupvalue = true, upvalueid = true, upvaluejoin = true,
    getmetatable = true, setmetatable = true, gethook = true,
}

function main(env, con)
    local found = {}
    for _, library in ipairs { debug, package.loaded.debug, require "debug" } do
        local _ = library.getupvalue
        for name in pairs(library) do
            if not KNOWN[name] then found[#found + 1] = name end
        end
        for _, name in ipairs { "sethook", "getregistry", "getlocal", "setlocal", "getuservalue", "setuservalue", "debug",
            "getfenv", "setfenv", "fill", "dump", "setcstacklimit" } do
            if library[name] then found[#found + 1] = name end
        end
        if getmetatable(library) then found[#found + 1] = "metatable" end
    end
    -- Metatables that are locked, or of a kind of value that the server relies on.
    for name, value in pairs { preload = package.preload, methods = getmetatable(con).__index, number = 0 } do
        if debug.getmetatable(value) then found[#found + 1] = "metatable of " .. name end
    end
    for _, file in ipairs { io.stdout, io.stderr, io.stdin, (assert(io.open("/dev/null"))) } do
        local meta = debug.getmetatable(file)
        if meta and (meta.__gc or meta.__close or rawget(meta, "__metatable")) then found[#found + 1] = "metatable of a file" end
        if meta then meta.__index, meta.mine = nil, true end
        if not file.close then found[#found + 1] = "metatable of a file changed" end
        if meta then meta.__index = getmetatable(file).__index end
    end
    for _, value in ipairs { 0, true, print, coroutine.create(print), io.stdout, package.preload, getmetatable(con).__index } do
        if pcall(debug.setmetatable, value, {}) then found[#found + 1] = "setmetatable of a " .. type(value) end
    end
    if pcall(debug.setmetatable, nil, {}) then found[#found + 1] = "setmetatable of nil" end
    -- Texts without a metatable, and with one of the script's: nothing of the server's asks for it.
    local meta = getmetatable("")
    for _, other in ipairs { false, { __index = function() error("asked") end, __metatable = "locked", __gc = print } } do
        debug.setmetatable("", other or nil)
        con:header("X-A", "b")
        con:log("text")
        pcall(require, "no.such")
        pcall(io.open, "no such")
        pcall(load, "x =")
        pcall(con.config, con, "a.b")
        debug.setmetatable("", meta)
    end
    con:puts(#found == 0 and type(debug.traceback) == "function" and "held" or table.concat(found, " "))
end
