-- What require does with a module of the server's: it is compiled, and gets its functions. Compiled for the first of them.
--
-- returns: open(name): what the module returns. Raises an error when it cannot be had

local lua, server = ...

return function(name)
    local source, names, number = server.ask("open_module", name)
    if not source then lua.error(names, 0) end
    local functions = {}
    for each in lua.gmatch(names, "[^\n]+") do
        local own = number
        functions[each] = function(...) return server.ask(own, ...) end
        number = number + 1
    end
    return server.compile_own(source)(lua, server, functions, name)
end
