" Syntax highlighting of Con_spec files for Vim and Neovim.
"
" Copy to ~/.vim/syntax/conspec.vim (~/.config/nvim/syntax/conspec.vim), and add to the vimrc:
"     autocmd BufRead,BufNewFile *.conspec set filetype=conspec

if exists("b:current_syntax")
  finish
endif

" Names may hold a hyphen, so that "floppy-ears" is one word.
syntax iskeyword @,48-57,_,-,192-255

syntax keyword conspecDeclaration model classes concepts set spec
syntax keyword conspecRequirement require applicable rate
syntax keyword conspecQuantifier for some in
syntax keyword conspecConnective and or not implies
syntax keyword conspecAtom predict hasCon
syntax keyword conspecImage x

syntax match conspecOperator /=>\|->\|>=\|&&\|||\|[!&|¬∧∨⇒→∀∃∈≥]/
syntax match conspecAtom />\ze\s*(\s*x\>/
syntax match conspecNumber /\<[0-9]\+\(\.[0-9]*\)\?\([eE][-+]\?[0-9]\+\)\?\s*%\?/
syntax region conspecString start=/"/ skip=/\\./ end=/"/ oneline
syntax match conspecComment /#.*$/ contains=conspecTodo,@Spell
syntax keyword conspecTodo TODO FIXME contained

highlight default link conspecDeclaration Keyword
highlight default link conspecRequirement Statement
highlight default link conspecQuantifier Repeat
highlight default link conspecConnective Operator
highlight default link conspecOperator Operator
highlight default link conspecAtom Function
highlight default link conspecImage Identifier
highlight default link conspecNumber Number
highlight default link conspecString String
highlight default link conspecComment Comment
highlight default link conspecTodo Todo

let b:current_syntax = "conspec"
