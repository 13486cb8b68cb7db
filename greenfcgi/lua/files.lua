-- require, dofile, loadfile, io and os as a script sees them: relative names are found beside the script, although
-- the process never changes its directory, and the server learns which Lua files a script is made of.
--
-- arguments: host.source(path, fresh): the text of a Lua file, or nil and the reason
--            host.written(path): the script is about to write this file, so it is data
--            directory: where the script lies; path, cpath: what require searches (templates joined by ";")

local host, directory, path, cpath = ...

local error, ipairs, tostring, type = error, ipairs, tostring, type
local find, gmatch, gsub, sub, concat = string.find, string.gmatch, string.gsub, string.sub, table.concat
local load = load

local function absolute(name)
    if sub(name, 1, 1) == "/" then return name end
    while sub(name, 1, 2) == "./" do name = sub(name, 3) end
    return directory .. "/" .. name
end

-- Compile the text of a file, with the mode and the environment that load takes. A first line that begins with "#"
-- (for a shell) and a byte order mark are passed over.
local function compile(source, name, ...)
    if sub(source, 1, 3) == "\239\187\191" then source = sub(source, 4) end
    if sub(source, 1, 1) == "#" then source = gsub(source, "^[^\n]*", "", 1) end
    return load(source, "@" .. name, ...)
end

-- A function of the standard library whose first argument is a file name; `writes` tells from the others whether
-- it changes the file.
local function beside(native, writes)
    return function(name, ...)
        if type(name) == "string" then
            name = absolute(name)
            if writes(...) then host.written(name) end
        end
        return native(name, ...)
    end
end

local function always() return true end
local function never() return false end

io.open = beside(io.open, function(mode) return type(mode) == "string" and find(mode, "[wa+]") end)
io.lines, io.input, io.output = beside(io.lines, never), beside(io.input, never), beside(io.output, always)
os.remove = beside(os.remove, always)
local native_rename = os.rename
function os.rename(from, to)
    from, to = absolute(tostring(from)), absolute(tostring(to))
    host.written(from)
    host.written(to)
    return native_rename(from, to)
end

function loadfile(name, mode, ...)
    if type(name) ~= "string" then error("bad argument #1 to 'loadfile' (string expected, got " .. type(name) .. ")", 2) end
    name = absolute(name)
    local source, reason = host.source(name, true)
    if not source then return nil, "cannot open " .. name .. ": " .. reason end
    return compile(source, name, mode, ...)
end
local loadfile = loadfile

function dofile(name)
    if type(name) ~= "string" then error("bad argument #1 to 'dofile' (string expected, got " .. type(name) .. ")", 2) end
    local chunk, reason = loadfile(name)
    if not chunk then error(reason, 0) end
    return chunk()
end

-- What stands before each place that a module was looked for: require itself puts it there from 5.4 on.
local lead = _VERSION >= "Lua 5.4" and "" or "\n\t"

local jit = jit

local function search(name)
    local file = gsub(name, "%.", "/")
    local tried = {}
    for template in gmatch(package.path, "[^;]+") do
        local candidate = absolute((gsub(template, "%?", function() return file end)))
        local source, reason = host.source(candidate, false)
        if source then
            local chunk, problem = compile(source, candidate)
            if chunk then return chunk, candidate end
            error("error loading module '" .. name .. "' from file '" .. candidate .. "':\n\t" .. problem, 0)
        end
        tried[#tried + 1] = candidate .. ": " .. reason
    end
    if jit and (name == "ffi" or name == "string.buffer") then
        tried[#tried + 1] = "lua.allow does not have \"" .. name .. "\""
    elseif cpath == "" then
        tried[#tried + 1] = "lua.cpath, for modules written in C: no folder"
    end
    return lead .. concat(tried, "\n\t")
end

package.path, package.cpath = path, cpath

local searchers = package.searchers or package.loaders
local native = {}
for i, searcher in ipairs(searchers) do native[i] = searcher end

-- Native modules come from the operator's lua.cpath alone, whatever a script writes into package.cpath.
local function confined(searcher)
    return function(name)
        package.cpath = cpath
        return searcher(name)
    end
end

searchers[2] = search
if cpath ~= "" then
    searchers[3], searchers[4] = confined(native[3]), confined(native[4])
else
    searchers[3], searchers[4] = nil, nil
end

return compile
