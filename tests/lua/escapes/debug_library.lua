-- The functions of the debug library that reach into other functions, the registry, or set hooks.
function main(env, con)
    local found = {}
    for _, library in ipairs { debug, package.loaded.debug, require "debug" } do
        for name in pairs(library) do
            if name ~= "traceback" and name ~= "getinfo" then found[#found + 1] = name end
        end
    end
    con:puts(#found == 0 and type(debug.traceback) == "function" and "held" or table.concat(found, " "))
end
