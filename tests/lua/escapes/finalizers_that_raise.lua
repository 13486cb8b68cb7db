-- Finalizers that raise errors, put in place by every way there is, which the server's own collections run.
function main(env, con)
    for _ = 1, 50 do
        if newproxy then
            local meta = getmetatable(newproxy(true))
            meta.__gc = {}
            meta.__gc = error
            rawset(meta, "__gc", function() error({}) end)
            pcall(setmetatable, meta, nil)
            newproxy(newproxy(true))
        else
            local meta = { __gc = true }
            setmetatable({}, meta)
            meta.__gc = function() error({}) end
            rawset(meta, "__gc", function() collectgarbage() error("x") end)
        end
        pcall(function() getmetatable(io.stdout).__gc = error end)
        pcall(function() getmetatable(io.stdin).__index.__gc = error end)
        io.open("/dev/null")
    end
    con:puts("held")
end
