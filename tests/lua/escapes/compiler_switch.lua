-- LuaJIT's compiler, whose code nothing can interrupt, switched on by the script.
function main(env, con)
    local found = {}
    if jit then
        jit.on()
        jit.on(true, true)
        jit.on(main, true)
        jit.off()
        jit.flush()
        if jit.status() then found[#found + 1] = "jit.status" end
        if jit.opt or jit.attach then found[#found + 1] = "jit.opt" end
        if package.loaded.jit ~= jit or require "jit" ~= jit then found[#found + 1] = "another jit" end
    end
    con:puts(#found == 0 and "held" or table.concat(found, "\n"))
end
