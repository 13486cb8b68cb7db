-- require, dofile and loadfile as a script sees them: relative names are found beside the script, and the server learns
-- which Lua files a script is made of. Compiled when the first of them is called.
--
-- The server is asked: ask("source", path, fresh): the text of a Lua file, or nil and the reason
-- check(path, opens, writes): as for files.lua
-- native(name, is_last): nil, or why this native module, or the one that holds it among others, cannot be loaded
-- native_file(path): the same of a file
-- native_hint(name): nil, or what to write into config.toml so that this native module is found
--
-- arguments: lua, server: see boot.lua
-- returns: a table: search(name): what require does with files of Lua; confined(searcher, name): what it does with native
--          modules; searchpath, loadlib, loadfile, dofile

local lua, server = ...

local error, type = lua.error, lua.type
local gmatch, gsub, match, concat = lua.gmatch, lua.gsub, lua.match, lua.concat
local ask, absolute, package, cpath = server.ask, server.paths, server.package, server.settings.cpath

local function is_name(value) return type(value) == "string" or type(value) == "number" end

local function name_of(value, what)
    if is_name(value) then return absolute(value) end
    server.errors.blame("bad argument #1 to '" .. what .. "' (string expected, got " .. type(value) .. ")")
end

local function loadfile(name, mode, ...)
    name = name_of(name, "loadfile")
    local text, reason = ask("source", name, true)
    if not text then return nil, "cannot open " .. name .. ": " .. reason end
    return server.texts.compile(text, name, mode, ...)
end

local function dofile(name)
    name = name_of(name, "dofile")
    local chunk, reason = loadfile(name)
    if not chunk then error(reason, 0) end
    return chunk()
end

-- What stands before each place that a module was looked for: require itself puts it there from 5.4 on.
local lead = lua.version >= "Lua 5.4" and "" or "\n\t"

local function search(name)
    local file = gsub(name, "%.", "/")
    local tried = {}
    for template in gmatch(package.path, "[^;]+") do
        local candidate = absolute((gsub(template, "%?", function() return file end)))
        local text, reason = ask("source", candidate, false)
        if text then
            local chunk, problem = server.texts.compile(text, candidate)
            if chunk then return chunk, candidate end
            error("error loading module '" .. name .. "' from file '" .. candidate .. "':\n\t" .. problem, 0)
        end
        tried[#tried + 1] = candidate .. ": " .. reason
    end
    local closed = lua.is_jit and (name == "ffi" or name == "string.buffer") and name
        or lua.is_jit and match(name, "^jit%.[a-z]+$") and "jit"
    if closed then
        tried[#tried + 1] = "lua.allow does not have \"" .. closed .. "\""
    elseif cpath == "" then
        tried[#tried + 1] = ask("native_hint", name) or "lua.cpath, for modules written in C: no folder"
    end
    return lead .. concat(tried, "\n\t")
end

-- Native modules come from the operator's lua.cpath alone, whatever a script writes into package.cpath; those built for
-- another Lua are refused.
local function confined(searcher, name, is_last)
    package.cpath = cpath
    local problem = ask("native", name, is_last)
    if problem then error(problem, 0) end
    local found, place = searcher(name)
    if not is_last or type(found) == "function" then return found, place end
    local hint = ask("native_hint", name)
    if not hint then return found end
    return type(found) == "string" and found .. "\n\t" .. hint or lead .. hint
end

-- Where lua.allow opens it.
local function loadlib(path, name)
    local problem = is_name(path) and ask("native_file", path .. "")
    if problem then return nil, problem, "open" end
    return server.errors.call("loadlib", lua.loadlib, path, name)
end

local function searchpath(name, templates, separator, replacement)
    if not is_name(name) or not is_name(templates) then
        return server.errors.call("searchpath", lua.searchpath, name, templates)
    end
    separator, replacement = separator or ".", replacement or "/"
    local file = name .. ""
    if separator ~= "" then file = gsub(file, (gsub(separator, "%p", "%%%0")), (gsub(replacement, "%%", "%%%%"))) end
    local tried = {}
    for template in gmatch(templates, "[^;]+") do
        local candidate = absolute((gsub(template, "%?", function() return file end)))
        local found = not server.call("check", candidate, true, false) and lua.io.open(candidate, "r")
        if found then
            found:close()
            return candidate
        end
        tried[#tried + 1] = "no file '" .. candidate .. "'"
    end
    return nil, lead .. concat(tried, "\n\t")
end

return {
    search = search, confined = confined, searchpath = searchpath, loadlib = loadlib, loadfile = loadfile, dofile = dofile,
}
