-- LuaJIT's ffi, which reads and writes any memory: by name, by a number that makes the parser load it, by string.buffer.
function main(env, con)
    local found = {}
    local function try(name)
        local ok, module = pcall(require, name)
        if ok and module then found[#found + 1] = "require " .. name end
        if package.loaded[name] then found[#found + 1] = "package.loaded " .. name end
        if package.preload[name] then found[#found + 1] = "package.preload " .. name end
    end
    if jit then
        try "ffi"
        for _, text in ipairs { "return 1LL", "return 2ULL + 1", "return 0x1p3i", "local x = 1i" } do
            for _, load in ipairs { loadstring, load, function(text) return load(function() local t = text text = nil return t end) end } do
                local chunk = load(text)
                if package.loaded.ffi then found[#found + 1] = "parser" end
                local number = chunk and chunk()
                if type(number) == "cdata" and type(getmetatable(number)) == "table" then found[#found + 1] = "metatable" end
                try "ffi"
            end
        end
        for _, name in ipairs { "string.buffer", "jit.util", "jit.profile", "jit.opt" } do try(name) end
    end
    con:puts(#found == 0 and "held" or table.concat(found, "\n"))
end
