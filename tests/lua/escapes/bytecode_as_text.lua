-- Bytecode, which can be made to do anything, through each function that loads source text.
local bytecode = string.dump(function() return "ran" end)

function main(env, con)
    local found = {}
    local function try(name, ...)
        local ok, chunk = pcall(...)
        if ok and chunk then found[#found + 1] = name end
    end
    local function pieces(size)
        local at = 1
        return function()
            local piece = bytecode:sub(at, at + size - 1)
            at = at + size
            return piece
        end
    end
    for _, mode in ipairs { "b", "bt", "tb", "t" } do try("load " .. mode, load, bytecode, "=x", mode) end
    try("load", load, bytecode)
    try("load with environment", load, bytecode, "=x", nil, {})
    try("reader", load, pieces(7))
    try("reader of single bytes", load, pieces(1), "=x", "b")
    local first = true
    try("reader of everything", load, function() if first then first = false return bytecode end end)
    if loadstring then
        try("loadstring", loadstring, bytecode)
        try("loadstring b", loadstring, bytecode, "=x", "b")
    end
    con:puts(#found == 0 and "held" or table.concat(found, "\n"))
end
